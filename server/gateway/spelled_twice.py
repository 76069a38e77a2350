"""A field that a JSON body gives twice: by the contract's name, and in camel case.

protobuf's parser takes both, and the later value counts. Nobody means that.
"""

from typing import Any

from google.protobuf.descriptor import Descriptor


def spelled_twice(body: Any, descriptor: Descriptor, path: str = "") -> str:
    """The path of the first such field; empty where there is none."""
    if not isinstance(body, dict):
        return ""
    seen = set[str]()
    for name, value in body.items():
        field = descriptor.fields_by_camelcase_name.get(name) or descriptor.fields_by_name.get(name)
        if field is None:
            continue
        where = f"{path}.{field.name}" if path else field.name
        if field.name in seen:
            return where
        seen.add(field.name)
        own = field.message_type
        if own is None or own.GetOptions().map_entry:
            continue
        parts = value if isinstance(value, list) else [value]
        for place, part in enumerate(parts):
            inside = f"{where}[{place}]" if field.is_repeated else where
            if found := spelled_twice(part, own, inside):
                return found
    return ""
