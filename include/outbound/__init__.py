"""What is sent to other systems: queue, mappings, source fields, targets."""
