"""A black-box conformance kit for OpenADR 3.1.0 VTNs: see README.md."""
