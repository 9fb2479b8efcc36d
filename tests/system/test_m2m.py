"""ORM: add to, remove from and clear many-to-many relations."""

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.db.models.signals import m2m_changed

from .conftest import DATABASES
from .recording import connected
from .shop.models import Book, Customer, Line, Order, Product, Tag

pytestmark = pytest.mark.django_db(databases=DATABASES)

ADD = ["pre_add", "post_add"]
REMOVE = ["pre_remove", "post_remove"]
CLEAR = ["pre_clear", "post_clear"]


def actions(seen):
    return [call.get("action") for call in seen.of("m2m_changed")]


def make_tags():
    return [Tag.objects.create(name=name) for name in ("new", "used", "rare")]


def make_product():
    return Product.objects.create(name="A lamp")


def test_every_action(compare_rolled_back):
    def scenario():
        lamp = make_product()
        new, used, rare = make_tags()
        lamp.tags.add(new, used.pk)
        # The signal has only the tags that are new.
        lamp.tags.add(used, rare)
        lamp.tags.add(rare)
        lamp.tags.remove(new, rare)
        lamp.tags.clear()
        return list(lamp.tags.all())

    seen = compare_rolled_back(scenario, sent=["m2m_changed"])
    assert actions(seen) == [*ADD, *ADD, *ADD, *REMOVE, *CLEAR]
    pk_sets = [call.get("pk_set") for call in seen.of("m2m_changed")]
    assert pk_sets[::2] == [
        ("set", [1, 2]),
        ("set", [3]),
        ("set", []),
        ("set", [1, 3]),
        None,
    ]
    assert {call.get("reverse") for call in seen.calls} == {False}


def test_receivers_see_the_rows(compare_rolled_back):
    def scenario():
        lamp = make_product()
        lamp.tags.set(make_tags())
        lamp.tags.clear()

    seen = compare_rolled_back(
        scenario, sent=["m2m_changed"], view=Product.tags.through.objects.count
    )
    views = [call.view for call in seen.of("m2m_changed")]
    assert views == [0, 3, 3, 0]


def test_reverse(compare_rolled_back):
    def scenario():
        lamp, chair = make_product(), make_product()
        new, *_ = make_tags()
        new.products.add(lamp, chair)
        new.products.remove(chair)
        new.products.set([chair])
        new.products.clear()
        return list(new.products.all())

    seen = compare_rolled_back(scenario, sent=["m2m_changed"])
    assert actions(seen) == [*ADD, *REMOVE, *REMOVE, *ADD, *CLEAR]
    assert {call.get("reverse") for call in seen.calls} == {True}
    assert {call.get("model") for call in seen.calls} == {
        "tests.system.shop.models.Product"
    }


def test_set(compare_rolled_back):
    def scenario():
        lamp = make_product()
        new, used, rare = make_tags()
        lamp.tags.set([new, used])
        lamp.tags.set([used, rare])
        lamp.tags.set([used, rare])
        lamp.tags.set([new], clear=True)
        return list(lamp.tags.all())

    seen = compare_rolled_back(scenario, sent=["m2m_changed"])
    assert actions(seen) == [*ADD, *REMOVE, *ADD, *CLEAR, *ADD]


def test_create(compare_rolled_back):
    def scenario():
        lamp = make_product()
        lamp.tags.create(name="new")
        lamp.tags.get_or_create(name="new")
        lamp.tags.update_or_create(name="used", defaults={"name": "rare"})
        return list(lamp.tags.order_by("pk"))

    seen = compare_rolled_back(scenario, sent=["m2m_changed", "post_save"])
    assert actions(seen) == [*ADD, *ADD]


def test_to_itself(compare_rolled_back):
    def scenario():
        lamp, chair = make_product(), make_product()
        lamp.similar.add(chair)
        similar = list(lamp.similar.all()), list(chair.similar.all())
        chair.similar.remove(lamp)
        return similar, lamp.similar.count()

    seen = compare_rolled_back(scenario, sent=["m2m_changed"])
    assert actions(seen) == [*ADD, *REMOVE]


def test_through_a_model(compare_rolled_back):
    def scenario():
        lamp, chair = make_product(), make_product()
        order = Order.objects.create(customer=Customer.objects.create(name="Ann"))
        order.products.add(lamp, through_defaults={"quantity": 2})
        order.products.set([lamp, chair], through_defaults={"quantity": 3})
        quantities = list(Line.objects.order_by("pk").values_list("quantity"))
        order.products.remove(lamp)
        lamp.order_set.add(order)
        order.products.clear()
        return quantities

    # Line is a model of the project, so its deletions send signals.
    seen = compare_rolled_back(
        scenario,
        sent=["m2m_changed", "pre_delete", "post_delete"],
        unsent=["pre_save", "post_save"],
        sender=Line,
    )
    assert actions(seen) == [*ADD, *ADD, *REMOVE, *ADD, *CLEAR]
    assert {call.get("sender") for call in seen.calls} == {
        "tests.system.shop.models.Line"
    }


def test_of_a_subclass(compare_rolled_back):
    def scenario():
        novel = Book.objects.create(name="A novel")
        novel.tags.add(*make_tags())
        novel.product_ptr.tags.clear()

    seen = compare_rolled_back(scenario, sent=["m2m_changed"])
    instances = [call.get("instance")[0] for call in seen.of("m2m_changed")]
    assert instances == ["shop.Book", "shop.Book", "shop.Product", "shop.Product"]


def test_several_databases(compare_rolled_back):
    def scenario():
        lamp = Product.objects.using("other").create(name="A lamp")
        lamp.tags.create(name="new")
        lamp.tags.clear()

    seen = compare_rolled_back(scenario, sent=["m2m_changed"])
    assert {call.get("using") for call in seen.calls} == {"other"}


# Without receivers, Django skips a query


def add_twice():
    lamp = make_product()
    tags = make_tags()
    lamp.tags.add(*tags)
    lamp.tags.add(*tags)


def count_lookups(seen):
    return sum(sql.startswith("SELECT") for sql in seen.result[1]["default"])


def test_receivers_decide_about_a_query(compare_rolled_back):
    through = Product.tags.through
    without = compare_rolled_back(add_twice)
    other_sender = compare_rolled_back(add_twice, unsent=["m2m_changed"], sender=Line)
    this_sender = compare_rolled_back(add_twice, sent=["m2m_changed"], sender=through)
    assert count_lookups(without) == count_lookups(other_sender) == 0
    assert count_lookups(this_sender) == 2


def test_an_error_in_a_receiver(compare_rolled_back):
    def refuse(action, **kwargs):
        if action == "post_add":
            raise ValueError("refused")

    def scenario():
        lamp = make_product()
        sender = Product.tags.through
        try:
            with transaction.atomic(), connected(m2m_changed, refuse, sender=sender):
                lamp.tags.add(*make_tags())
        except ValueError as error:
            return error, lamp.tags.count()

    seen = compare_rolled_back(scenario, sent=["m2m_changed"])
    assert seen.result[0] == [("builtins.ValueError", "refused"), 0]
    assert actions(seen) == ADD


def test_asynchronous_code(compare_rolled_back):
    async def change():
        lamp = await Product.objects.acreate(name="A lamp")
        new = await Tag.objects.acreate(name="new")
        await lamp.tags.aadd(new)
        await lamp.tags.aset([])
        await lamp.tags.aclear()

    seen = compare_rolled_back(
        async_to_sync(change), sent=["m2m_changed"], asynchronous=True
    )
    assert actions(seen) == [*ADD, *REMOVE, *CLEAR]
    assert len(seen.async_calls) == len(seen.calls)
