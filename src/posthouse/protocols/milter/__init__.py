"""The milter protocol (Sendmail's, version 6): programs that judge and change mail while it is handed in."""
