-- Who asks a view sees what they would see in its tables. `access.sql` has the rest.
ALTER VIEW decision_line SET (security_invoker = true);
ALTER VIEW decision_entry SET (security_invoker = true);
