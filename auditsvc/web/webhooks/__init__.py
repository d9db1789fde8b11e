"""Outgoing webhooks: every event of the log is sent, signed, to the webhooks that subscribe to it.

``webhook_store`` keeps webhooks and deliveries, ``dispatcher`` turns log entries into deliveries and sends them,
``webhook_signing`` signs them as "Standard Webhooks" specifies.
"""
