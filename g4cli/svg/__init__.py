"""Drawings in answers: find the SVG, check it, repair it, grade it. Text in, values out."""
