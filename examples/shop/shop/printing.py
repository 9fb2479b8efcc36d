"""A transport that shows on the terminal what would go to Sentry's server."""

from sentry_sdk.transport import Transport


class Printing(Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_transaction_event()
        if event is None:
            return
        print(f"transaction {event['transaction']}", flush=True)
        for span in event["spans"]:
            print(f"  {span['op']} {span['description']} {span['data']}", flush=True)
