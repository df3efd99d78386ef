"""What every view of the management API has in common, and no app."""
