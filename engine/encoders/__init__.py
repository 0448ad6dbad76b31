"""Encoders: everything that turns texts and pictures into vectors."""
