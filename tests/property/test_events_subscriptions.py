"""Random subscribing, leaving and publishing against a model."""

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hastack import events


@attrs.frozen(kw_only=True)
class A(events.Event):
    pass


@attrs.frozen(kw_only=True)
class B(A):
    pass


@attrs.frozen(kw_only=True)
class C(events.Event):
    pass


CLASSES = [events.Event, A, B, C]


class Subscriptions(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.live = []  # (key, classes, end)
        self.got = []
        self.keys = 0

    @rule(classes=st.lists(st.sampled_from(CLASSES), max_size=2), fails=st.booleans())
    def subscribe(self, classes, fails):
        key = self.keys = self.keys + 1

        def receive(event):
            self.got.append((key, event))
            if fails:
                raise ValueError("subscriber")

        self.live.append((key, classes or [events.Event], events.subscribe(receive, *classes)))

    @rule(data=st.data())
    def leave(self, data):
        if self.live:
            entry = data.draw(st.sampled_from(self.live))
            entry[2]()
            entry[2]()
            self.live.remove(entry)

    @rule(kind=st.sampled_from(CLASSES))
    def publish(self, kind):
        event = kind()
        self.got.clear()
        events.topic(kind).publish(event)
        expected = [key for key, classes, _ in self.live if issubclass(kind, tuple(classes))]
        assert [key for key, _ in self.got] == expected
        assert all(each is event for _, each in self.got)

    @invariant()
    def nobody_listens_means_empty(self):
        for kind in CLASSES:
            wanted = any(issubclass(kind, tuple(classes)) for _, classes, _ in self.live)
            assert bool(events.topic(kind).subscribers) is wanted

    def teardown(self):
        for _, _, end in self.live:
            end()
        assert not events._subscriptions


class Queues(RuleBasedStateMachine):
    """The bounded queue against a list."""

    def __init__(self):
        super().__init__()
        self.pairs = [
            (events.Queue(3, policy=policy), [], policy)
            for policy in ("drop-oldest", "drop-newest")
        ]
        self.sent = 0
        self.taken = [0, 0]

    @rule()
    def put(self):
        self.sent += 1
        for queue, model, policy in self.pairs:
            queue(self.sent)
            if len(model) < 3:
                model.append(self.sent)
            elif policy == "drop-oldest":
                model[:] = [*model[1:], self.sent]

    @rule()
    def get(self):
        for number, (queue, model, _) in enumerate(self.pairs):
            expected = model.pop(0) if model else None
            assert queue.get(0) == expected
            self.taken[number] += expected is not None

    @rule()
    def take(self):
        for number, (queue, model, _) in enumerate(self.pairs):
            assert queue.take() == model
            self.taken[number] += len(model)
            model.clear()

    @invariant()
    def nothing_is_lost_uncounted(self):
        for number, (queue, model, _) in enumerate(self.pairs):
            assert len(queue) == len(model) <= 3
            assert self.taken[number] + len(queue) + queue.dropped == self.sent


TestSubscriptions = Subscriptions.TestCase
TestSubscriptions.settings = settings(max_examples=60, stateful_step_count=30)
TestQueues = Queues.TestCase
TestQueues.settings = settings(max_examples=60, stateful_step_count=30)
