"""The restriction lists: who may hand in mail from whom to whom, in the operator's words."""
