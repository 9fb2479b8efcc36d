"""``mute_signals()`` in all its forms, while receivers come, go and fail."""

import gc

import factory
from django.contrib.auth.models import Group, User
from django.db.models.signals import post_save, pre_save
from factory.django import DjangoModelFactory, mute_signals

from ._notes import Notes, receivers_of

PACKAGES = ["factory_boy"]
SETTINGS = {"INSTALLED_APPS": ["altdispatch"]}

notes = Notes()


class GroupFactory(DjangoModelFactory):
    class Meta:
        model = Group

    name = factory.Sequence("group {}".format)


@mute_signals(post_save)
class UserFactory(DjangoModelFactory):
    class Meta:
        model = User
        skip_postgeneration_save = True

    username = factory.Sequence("user {}".format)

    @factory.post_generation
    def group(self, create, extracted, **kwargs):
        self.groups.add(GroupFactory())


def drive():
    notes.listen("before", pre_save)
    notes.listen("after", post_save)
    notes.listen("after, of groups", post_save, sender=Group)
    return [
        [step.__name__, step(), notes.take(), *map(receivers_of, (pre_save, post_save))]
        for step in STEPS
    ]


def error_of(function):
    """Return the error that a call raises; fail if it raises none."""
    try:
        function()
    except Exception as error:
        return [type(error).__name__, str(error)]
    raise AssertionError(f"{function} raised nothing")


def unmuted():
    group = GroupFactory()
    assert len(notes) == 3
    return group.name


def class_decorated():
    user = UserFactory()
    assert len(notes) == 2
    return [user.username, list(user.groups.values_list("name", flat=True))]


@mute_signals(pre_save, post_save)
def function_decorated():
    group = GroupFactory()
    assert not notes
    return [group.name, pre_save.has_listeners(Group)]


def nested():
    with mute_signals(pre_save):
        GroupFactory()
        with mute_signals(post_save):
            GroupFactory()
            with mute_signals(pre_save, post_save):
                GroupFactory()
            GroupFactory()
        GroupFactory()
    GroupFactory()
    return Group.objects.count()


@mute_signals(pre_save)
def create_twice():
    with mute_signals(post_save), mute_signals(pre_save, post_save):
        group = GroupFactory()
        Group.objects.create(name=group.name)


def failing():
    return [error_of(create_twice), error_of(create_twice)]


def failing_receiver():
    def fail(instance, **kwargs):
        raise ValueError(f"not {instance.name}")

    with mute_signals(post_save):
        post_save.connect(fail, sender=Group)
        errors = [error_of(GroupFactory)]
    errors.append(error_of(GroupFactory))
    return [errors, post_save.disconnect(fail, sender=Group)]


def connected_meanwhile():
    with mute_signals(post_save):
        late = notes.listen("late", post_save, sender=Group)
        inside = post_save.has_listeners(Group), post_save.has_listeners(User)
        GroupFactory()
    GroupFactory()
    assert [name for name, *_ in notes].count("late") == 2
    return [inside, post_save.disconnect(late, sender=Group)]


def disconnected_meanwhile():
    early = notes.listen("early", post_save, sender=Group)
    with mute_signals(post_save):
        found = post_save.disconnect(early, sender=Group)
    GroupFactory()
    return [found, post_save.disconnect(early, sender=Group)]


def gone_meanwhile():
    short_lived = notes.listen("short-lived", post_save, weak=True)
    GroupFactory()
    with mute_signals(post_save):
        del short_lived
        gc.collect()
        GroupFactory()
    GroupFactory()
    return Group.objects.count()


STEPS = [
    unmuted,
    class_decorated,
    function_decorated,
    nested,
    failing,
    failing_receiver,
    connected_meanwhile,
    disconnected_meanwhile,
    gone_meanwhile,
    unmuted,
]
