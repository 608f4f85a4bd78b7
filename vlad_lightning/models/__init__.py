"""The networks and the plain functions beside them: no Lightning on this floor."""
