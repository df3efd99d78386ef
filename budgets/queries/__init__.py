"""What interfaces read: bounded statements, which write nothing."""
