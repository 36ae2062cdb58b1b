"""Pictures of what training sees and of what models answer."""
