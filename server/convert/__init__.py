"""Between protobuf and the domain: the only place, with the event codec, that sees generated code.

`columns.py` moves whole columns at once; the other modules follow the files of the contract.
"""
