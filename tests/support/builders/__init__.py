"""Builders of test files. They share no code with the code under test."""
