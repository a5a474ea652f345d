"""Postfix's policy delegation protocol (SMTPD_POLICY_README): asking a policy service."""
