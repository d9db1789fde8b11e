"""Telling others: every event of the log can be sent, signed, to whoever asked for it.

signing     the signature of "Standard Webhooks", which receivers check with its libraries
book        who wants to be told what, and every delivery with its fate,
courier     reads the log, writes deliveries, sends them, tries again, gives up
"""
