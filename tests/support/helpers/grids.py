"""Flower's grid without Flower."""

from flwr.app import Message


class FakeGrid:
    """Hands messages to a function of the node, and its replies back.

    Args:
        nodes: Node ids.
        answer: (node, message) -> content, an ``Error``, or None for no answer.
    """

    def __init__(self, nodes, answer):
        self.nodes, self._answer = list(nodes), answer
        self._replies, self.sent = {}, []

    def get_node_ids(self):
        return self.nodes

    def push_messages(self, messages):
        numbers = []
        for message in messages:
            self.sent.append(message)
            number = f"m{len(self.sent)}"
            numbers.append(number)
            found = self._answer(message.metadata.dst_node_id, message)
            if found is not None:
                self._replies[number] = self._reply(message, number, found)
        return numbers

    def pull_messages(self, numbers):
        return [self._replies.pop(n) for n in numbers if n in self._replies]

    def send_and_receive(self, messages, *, timeout=None):
        return self.pull_messages(self.push_messages(messages))

    @staticmethod
    def _reply(message, number, found):
        message.metadata.__dict__["_message_id"] = number
        return Message(found, reply_to=message)


class Clock:
    """A clock that advances when something sleeps."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
