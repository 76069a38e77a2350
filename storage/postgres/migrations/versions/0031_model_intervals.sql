-- After these bets and all before: whether the model's intervals have no bounds.
ALTER TABLE model_score ADD COLUMN is_unbounded boolean NOT NULL DEFAULT false;
