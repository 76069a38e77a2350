-- Who approved parameters that may make stakes larger; empty: nobody had to.
ALTER TABLE parameter_set ADD COLUMN approver text NOT NULL DEFAULT '';
