"""The tests of g4; tests/support holds what they share."""
