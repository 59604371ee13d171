"""The demonstration: a business system with sample data, and a run of the main job."""
