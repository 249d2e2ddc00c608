"""The engine's protocol as a small model, and every order of events that it allows, explored."""
