"""From files and records to chunks: cleaning, PDF text, sections, chunks. Nothing here knows the database."""
