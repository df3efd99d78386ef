"""What a running noburn stands on: embedded servers, database roles, boot checks, supervisor."""
