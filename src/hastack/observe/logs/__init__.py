"""Log lines as typed records: combinators, formats, schemas that infer themselves."""
