"""ORM: deletions, which are faster without receivers."""

import gc

import pytest
from asgiref.sync import async_to_sync
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import ProtectedError, RestrictedError
from django.db.models.signals import post_delete, pre_delete

from .conftest import DATABASES
from .recording import connected
from .shop.models import (
    Bargain,
    Book,
    Customer,
    Line,
    Order,
    Product,
    Remark,
    Reply,
    Review,
    Tag,
    Voucher,
)

pytestmark = pytest.mark.django_db(databases=DATABASES)

DELETE = ["pre_delete", "post_delete"]


def senders_of(calls):
    return [call.get("sender").rpartition(".")[2] for call in calls]


# Signals that are sent


def test_an_instance_and_a_query(compare_rolled_back):
    def scenario():
        for name in ("new", "used", "rare"):
            Tag.objects.create(name=name)
        tag = Tag.objects.get(name="used")
        return tag.delete(), tag, Tag.objects.order_by("-name").delete()

    seen = compare_rolled_back(scenario, sent=DELETE)
    assert seen.signals() == [*DELETE, "pre_delete", "pre_delete", *DELETE[1:] * 2]
    origins = [call.get("origin")[0] for call in seen.of("post_delete")]
    assert origins == ["shop.Tag", "query", "query"]


def test_cascade(compare_rolled_back):
    def count_rows():
        models = (Customer, Order, Line, Review, Remark)
        return [model.objects.count() for model in models]

    def scenario():
        ContentType.objects.clear_cache()
        ann = Customer.objects.create(name="Ann")
        lamp = Product.objects.create(name="A lamp")
        order = Order.objects.create(customer=ann)
        order.remarks.create(text="In a hurry")
        Line.objects.create(order=order, product=lamp)
        Line.objects.create(order=order, product=lamp, quantity=2)
        review = Review.objects.create(product=lamp, customer=ann)
        deleted = ann.delete()
        review.refresh_from_db()
        return deleted, review

    seen = compare_rolled_back(scenario, sent=DELETE, view=count_rows)
    assert sorted(senders_of(seen.of("post_delete"))) == [
        *("Customer", "Line", "Line", "Order", "Remark")
    ]
    # All pre_delete signals come before the first deletion. The review stays.
    assert [call.view for call in seen.of("pre_delete")] == [[1, 1, 2, 1, 1]] * 5
    assert seen.of("post_delete")[-1].view == [0, 0, 0, 1, 0]
    assert seen.result[0][1][1]["customer_id"] is None


def test_protected(compare_rolled_back):
    def scenario():
        order = Order.objects.create(customer=Customer.objects.create(name="Ann"))
        lamp = Product.objects.create(name="A lamp")
        Line.objects.create(order=order, product=lamp)
        try:
            lamp.delete()
        except ProtectedError as error:
            return error, sorted(line.pk for line in error.protected_objects)

    seen = compare_rolled_back(scenario, unsent=DELETE)
    (kind, _), protected = seen.result[0]
    assert (kind, protected) == ("django.db.models.deletion.ProtectedError", [1])


def test_restricted(compare_rolled_back):
    def scenario():
        ann = Customer.objects.create(name="Ann")
        lamp = Product.objects.create(name="A lamp")
        review = Review.objects.create(product=lamp, customer=ann)
        Voucher.objects.create(customer=ann, review=review)
        try:
            review.delete()
        except RestrictedError as error:
            return error, error.restricted_objects, ann.delete()

    seen = compare_rolled_back(scenario, sent=DELETE)
    assert seen.result[0][0][0] == "django.db.models.deletion.RestrictedError"
    assert senders_of(seen.of("post_delete")) == ["Voucher", "Customer"]


def test_inherited(compare_rolled_back):
    def scenario():
        novel, poems = (Book.objects.create(name=n) for n in ("A novel", "Poems"))
        return (
            novel.delete(),
            poems.delete(keep_parents=True),
            list(Product.objects.all()),
            Product.objects.all().delete(),
        )

    seen = compare_rolled_back(scenario, sent=DELETE)
    assert senders_of(seen.of("post_delete")) == ["Book", "Product", "Book", "Product"]


def test_proxy(compare_rolled_back):
    def scenario():
        Product.objects.bulk_create([Product(name=name) for name in ("A", "B", "C")])
        return (
            Bargain.objects.get(name="A").delete(),
            Product.objects.get(name="B").delete(),
            Bargain.objects.all().delete(),
        )

    seen = compare_rolled_back(scenario, sent=DELETE)
    assert senders_of(seen.of("post_delete")) == ["Bargain", "Product", "Bargain"]
    for sender in (Bargain, Product):
        seen = compare_rolled_back(scenario, sent=DELETE, sender=sender)
        assert set(senders_of(seen.calls)) == {sender.__name__}


def test_several_databases(compare_rolled_back):
    def scenario():
        in_default = Tag.objects.create(name="new")
        in_other = Tag.objects.using("other").create(name="new")
        return (
            in_other.delete(),
            in_default.delete(using="other"),
            [Tag.objects.using(alias).count() for alias in DATABASES],
        )

    seen = compare_rolled_back(scenario, sent=DELETE)
    assert [call.get("using") for call in seen.of("post_delete")] == ["other", "other"]
    assert seen.result[0][2] == [1, 0]


def test_rows_of_a_many_to_many_relation(compare_rolled_back):
    """Django sends no signals for rows of a table that it made for the relation."""

    def scenario():
        lamp = Product.objects.create(name="A lamp")
        lamp.tags.create(name="new")
        lamp.tags.create(name="used")
        return lamp.delete()

    seen = compare_rolled_back(scenario, sent=DELETE)
    assert senders_of(seen.of("post_delete")) == ["Product"]
    assert seen.result[0][0] == 3


def test_raw_delete_sends_nothing(compare_rolled_back):
    def scenario():
        Tag.objects.create(name="new")
        return Tag.objects.all()._raw_delete("default")

    seen = compare_rolled_back(scenario, unsent=DELETE)
    assert seen.result[0] == 1


@pytest.mark.parametrize("signal", [pre_delete, post_delete], ids=DELETE)
def test_an_error_in_a_receiver(compare_rolled_back, signal):
    def refuse(instance, **kwargs):
        raise ValueError(f"refused: {instance}")

    def scenario():
        tag = Tag.objects.create(name="new")
        try:
            with transaction.atomic(), connected(signal, refuse, sender=Tag):
                tag.delete()
        except ValueError as error:
            return error, Tag.objects.count(), tag

    seen = compare_rolled_back(scenario, sent=["pre_delete"])
    assert seen.result[0][:2] == [("builtins.ValueError", "refused: new"), 1]


def test_asynchronous_code(compare_rolled_back):
    async def delete():
        tag = await Tag.objects.acreate(name="new")
        await Tag.objects.acreate(name="used")
        return await tag.adelete(), await Tag.objects.all().adelete()

    seen = compare_rolled_back(async_to_sync(delete), sent=DELETE, asynchronous=True)
    assert len(seen.of("post_delete")) == 2
    assert [(c.signal, c.arguments) for c in seen.async_calls] == [
        (c.signal, c.arguments) for c in seen.calls
    ]


# Receivers decide how Django deletes


def delete_replies():
    """Delete replies in each possible way; return the results."""
    product = Product.objects.create(name="A lamp")
    review = Review.objects.create(product=product)
    replies = [Reply(review=review, text=text) for text in ("a", "b", "c", "d")]
    Reply.objects.bulk_create(replies)
    return (
        Reply.objects.get(text="a").delete(),
        Reply.objects.filter(text="b").delete(),
        review.delete(),
        product.delete(),
    )


def count_fetches(seen):
    """Return the number of queries for replies to delete."""
    queries = seen.result[1]["default"]
    # The scenario makes one query itself.
    return sum('FROM "shop_reply"' in q and q.startswith("SELECT") for q in queries) - 1


def test_without_receivers(compare_rolled_back):
    assert count_fetches(compare_rolled_back(delete_replies)) == 0


@pytest.mark.parametrize("signal", DELETE)
def test_with_receivers(compare_rolled_back, signal):
    every_sender = compare_rolled_back(delete_replies, sent=[signal])
    for_replies = compare_rolled_back(delete_replies, sent=[signal], sender=Reply)
    assert count_fetches(every_sender) == count_fetches(for_replies) == 2
    assert len(every_sender.of(signal)) == 6
    assert len(for_replies.of(signal)) == 4


@pytest.mark.parametrize("signal", DELETE)
def test_with_receivers_of_another_sender(compare_rolled_back, signal):
    for_tags = compare_rolled_back(delete_replies, unsent=[signal], sender=Tag)
    for_reviews = compare_rolled_back(delete_replies, sent=[signal], sender=Review)
    assert count_fetches(for_tags) == count_fetches(for_reviews) == 0


def test_with_former_receivers(compare_rolled_back):
    """A dead or disconnected receiver doesn't count."""

    def scenario():
        def died(**kwargs):
            raise AssertionError

        def disconnected(**kwargs):
            raise AssertionError

        pre_delete.connect(died, sender=Reply)
        post_delete.connect(disconnected)
        listened = [s.has_listeners(Reply) for s in (pre_delete, post_delete)]
        post_delete.disconnect(disconnected)
        del died
        gc.collect()
        listened += [s.has_listeners(Reply) for s in (pre_delete, post_delete)]
        return listened, delete_replies()

    seen = compare_rolled_back(scenario)
    assert seen.result[0][0] == [True, True, False, False]
    assert count_fetches(seen) == 0


def test_receiver_connected_during_a_deletion(compare_rolled_back):
    def scenario():
        calls = []

        def connect(**kwargs):
            post_delete.connect(receive, sender=Reply)

        def receive(instance, **kwargs):
            calls.append(instance)

        with connected(pre_delete, connect, sender=Review):
            deleted = delete_replies()
        listens = post_delete.has_listeners(Reply)
        return calls, deleted, listens, post_delete.disconnect(receive, sender=Reply)

    seen = compare_rolled_back(scenario)
    # Django decided earlier not to fetch the replies, so it sends nothing for them.
    calls, _, *listened = seen.result[0]
    assert (calls, listened) == ([], [True, True])
    assert count_fetches(seen) == 0


def test_with_an_asynchronous_receiver(compare_rolled_back):
    def scenario():
        calls = []

        async def receive(instance, **kwargs):
            calls.append(instance.text)

        with connected(pre_delete, receive, sender=Reply):
            return delete_replies(), calls

    seen = compare_rolled_back(scenario)
    assert seen.result[0][1] == ["a", "b", "c", "d"]
    assert count_fetches(seen) == 2
