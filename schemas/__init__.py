"""What events look like: msgspec types, their JSON Schemas, and decoding errors that name the field."""
