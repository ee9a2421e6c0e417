SELECT OBJECT_NAME(parent_object_id) FROM sys.foreign_keys WHERE referenced_object_id = OBJECT_ID(?) AND delete_referential_action <> 0 AND parent_object_id <> referenced_object_id;
