"""ORM: signals of model classes, of instances, and of saving."""

import io

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.core.management import call_command
from django.db import IntegrityError, models, transaction
from django.db.models.signals import (
    ModelSignal,
    class_prepared,
    post_init,
    post_save,
    pre_init,
    pre_save,
)
from django.test.utils import isolate_apps

from .conftest import DATABASES, rolled_back
from .recording import connected
from .shop.models import (
    Bargain,
    Book,
    Customer,
    Order,
    Product,
    Review,
    Tag,
)

pytestmark = pytest.mark.django_db(databases=DATABASES)

INIT = ["pre_init", "post_init"]
SAVE = ["pre_save", "post_save"]


def senders_of(calls):
    return [call.get("sender").rpartition(".")[2] for call in calls]


# Saving


def test_create_and_save(compare_rolled_back):
    def scenario():
        lamp = Product.objects.create(name="A lamp")
        lamp.price = 30
        lamp.save()
        chair = Product(name="A chair")
        chair.save(force_insert=True)
        chair.save(force_update=True)
        return lamp, chair

    seen = compare_rolled_back(scenario, sent=INIT + SAVE)
    assert seen.signals() == INIT + SAVE + SAVE + INIT + SAVE + SAVE
    created = [call.get("created") for call in seen.of("post_save")]
    assert created == [True, False, True, False]


def test_only_receivers_from_before_the_swap(record, assert_same_swapped):
    def scenario():
        record.clear()
        with rolled_back():
            Product.objects.create(name="A lamp").save()
        return record.finish(None)

    with record.connected("early", INIT + SAVE):
        seen = assert_same_swapped(scenario)
    assert seen.signals() == INIT + SAVE + SAVE


def test_receivers_of_one_sender(compare_rolled_back):
    def scenario():
        Product.objects.create(name="A lamp")
        Tag.objects.create(name="new")
        Book.objects.create(name="A novel")

    seen = compare_rolled_back(scenario, sent=INIT + SAVE, sender=Product)
    assert {call.get("sender") for call in seen.calls} == {
        "tests.system.shop.models.Product"
    }


def test_update_fields(compare_rolled_back):
    def scenario():
        lamp = Product.objects.create(name="A lamp")
        lamp.save(update_fields=["name", "price"])
        lamp.save(update_fields=[])

    seen = compare_rolled_back(scenario, sent=SAVE)
    # With no fields to update, save() sends nothing.
    assert [call.get("update_fields") for call in seen.of("post_save")] == [
        None,
        ("set", ["name", "price"]),
    ]


def test_inherited_and_proxy(compare_rolled_back):
    def scenario():
        book = Book.objects.create(name="A novel", pages=300)
        book.product_ptr.save()
        Bargain.objects.create(name="A lamp").save()
        return list(Product.objects.order_by("pk"))

    seen = compare_rolled_back(scenario, sent=INIT + SAVE)
    assert senders_of(seen.of("post_save")) == ["Book", "Product", "Bargain", "Bargain"]


def test_several_databases(compare_rolled_back):
    def scenario():
        lamp = Product.objects.using("other").create(name="A lamp")
        lamp.save()
        lamp.save(using="default")
        Tag(name="new").save(using="other")
        return [Product.objects.using(alias).count() for alias in DATABASES]

    seen = compare_rolled_back(scenario, sent=SAVE)
    using = [call.get("using") for call in seen.of("post_save")]
    assert using == ["other", "other", "default", "other"]
    assert seen.result[0] == [1, 1]


def test_create_through_relations(compare_rolled_back):
    def scenario():
        ann = Customer.objects.create(name="Ann")
        order = ann.orders.create()
        bob, is_new = Customer.objects.get_or_create(name="Bob")
        again = Customer.objects.get_or_create(name="Bob")
        changed = Customer.objects.update_or_create(
            name="Bob", defaults={"name": "Rob"}
        )
        bob.orders.add(order, bulk=False)
        bob.orders.add(Order(), bulk=False)
        return is_new, again, changed, list(bob.orders.order_by("pk"))

    seen = compare_rolled_back(scenario, sent=INIT + SAVE)
    created = [call.get("created") for call in seen.of("post_save")]
    assert created == [True, True, True, False, False, True]


def test_bulk_paths_send_nothing(compare_rolled_back):
    def scenario():
        ann = Customer.objects.create(name="Ann")
        products = Product.objects.bulk_create(
            [Product(name="A lamp"), Product(name="A chair")]
        )
        for product in products:
            product.price = 5
        Product.objects.bulk_update(products, ["price"])
        Product.objects.filter(name="A lamp").update(name="A light")
        ann.orders.add(Order.objects.bulk_create([Order(customer=ann)])[0])
        return list(Product.objects.order_by("pk").values_list("name", "price"))

    seen = compare_rolled_back(scenario, sent=INIT + SAVE)
    assert senders_of(seen.of("post_save")) == ["Customer"]
    assert seen.result[0] == [["A light", 5], ["A chair", 5]]


@pytest.mark.parametrize("signal", [pre_save, post_save], ids=SAVE)
def test_an_error_in_a_receiver(compare_rolled_back, signal):
    def refuse(instance, **kwargs):
        raise ValueError(f"refused: {instance}")

    def scenario():
        try:
            with transaction.atomic(), connected(signal, refuse, sender=Tag):
                Tag.objects.create(name="new")
        except ValueError as error:
            return error, Tag.objects.count()

    seen = compare_rolled_back(scenario, sent=["pre_save"])
    assert seen.result[0] == [("builtins.ValueError", "refused: new"), 0]


def test_an_error_of_the_database(compare_rolled_back):
    def scenario():
        try:
            with transaction.atomic():
                Customer(pk=1, name="Ann").save(force_insert=True)
                Customer(pk=1, name="Bob").save(force_insert=True)
        except IntegrityError as error:
            return error

    seen = compare_rolled_back(scenario, sent=SAVE)
    assert seen.signals() == [*SAVE, "pre_save"]


def test_receivers_see_the_transaction(compare_rolled_back):
    def describe_transaction():
        connection = transaction.get_connection()
        return len(connection.savepoint_ids), Customer.objects.count()

    def scenario():
        Customer.objects.create(name="Ann")
        with transaction.atomic():
            Book.objects.create(name="A novel")
            Customer.objects.create(name="Bob")
        transaction.on_commit(lambda: Customer.objects.create(name="never"))

    seen = compare_rolled_back(scenario, sent=SAVE, view=describe_transaction)
    outside = seen.of("pre_save")[0].view[0]
    assert [call.view for call in seen.of("post_save")] == [
        (outside, 1),
        (outside + 1, 1),
        (outside + 1, 2),
    ]


def test_a_receiver_that_saves(compare_rolled_back):
    def review(instance, created, **kwargs):
        if created:
            Review.objects.create(product=instance, stars=1)
            instance.save(update_fields=["price"])

    def scenario():
        with connected(post_save, review, sender=Product):
            Product.objects.create(name="A lamp")
        return list(Review.objects.all())

    seen = compare_rolled_back(scenario, sent=INIT + SAVE)
    assert sorted(senders_of(seen.of("post_save"))) == ["Product", "Product", "Review"]


def test_asynchronous_code(compare_rolled_back):
    async def save():
        lamp = await Product.objects.acreate(name="A lamp")
        lamp.price = 30
        await lamp.asave(update_fields=["price"])
        await lamp.arefresh_from_db()
        return lamp

    seen = compare_rolled_back(async_to_sync(save), sent=INIT + SAVE, asynchronous=True)
    assert len(seen.of("post_save")) == 2
    assert [(c.signal, c.arguments) for c in seen.async_calls] == [
        (c.signal, c.arguments) for c in seen.calls
    ]


# Fixtures


def test_fixtures_are_saved_raw(compare_rolled_back):
    def scenario():
        call_command("loaddata", "shop", verbosity=0)
        written = io.StringIO()
        call_command("dumpdata", "shop", stdout=written)
        return written.getvalue()

    sent = [*INIT, *SAVE, "m2m_changed"]
    seen = compare_rolled_back(scenario, sent=sent)
    assert {call.get("raw") for call in seen.of("pre_save")} == {True}
    # A Book has a row in Product, which the fixture loads first.
    assert senders_of(seen.of("post_save")) == [
        *("Tag", "Tag", "Product", "Product"),
        *("Book", "Customer", "Order", "Line"),
    ]


def test_deserialized_objects(compare_rolled_back):
    def scenario():
        text = serializers.serialize("json", [Product(pk=7, name="A lamp")])
        for loaded in serializers.deserialize("json", text, using="other"):
            loaded.save(using="other")
        return list(Product.objects.using("other").all())

    seen = compare_rolled_back(scenario, sent=INIT + SAVE)
    assert [(c.get("raw"), c.get("using")) for c in seen.of("post_save")] == [
        (True, "other")
    ]


# Instances


def test_instances_from_the_database(compare_rolled_back):
    def scenario():
        lamp = Product.objects.create(name="A lamp", text="Bright", price=30)
        Review.objects.create(product=lamp)
        found = [
            list(Product.objects.all()),
            Product.objects.get(),
            list(Product.objects.iterator(chunk_size=1)),
            list(Review.objects.select_related("product", "customer")),
            list(Product.objects.raw("SELECT * FROM shop_product")),
            list(Product.objects.prefetch_related("tags")),
        ]
        # These create no instances.
        values = [*Product.objects.values("name"), *Product.objects.values_list("pk")]
        return found, values

    seen = compare_rolled_back(scenario, sent=INIT)
    assert len(seen.of("post_init")) == 2 + 1 + 1 + 1 + 2 + 1 + 1


def test_deferred_fields(compare_rolled_back):
    def scenario():
        Product.objects.create(name="A lamp", text="Bright", price=30)
        only = Product.objects.only("name").get()
        deferred = Product.objects.defer("text").get()
        only.name = "A light"
        only.save()
        states = [sorted(only.get_deferred_fields()), sorted(deferred.text)]
        deferred.refresh_from_db(fields=["name"])
        deferred.save()
        return states, only, deferred

    seen = compare_rolled_back(scenario, sent=INIT + SAVE)
    updated = [call.get("update_fields") for call in seen.of("post_save")]
    assert updated == [None, ("set", ["name"]), None]
    _, loaded, *_ = seen.of("post_init")[1].get("instance")
    assert loaded == {"id": 1, "name": "A lamp"}


def test_image_fields_update_their_dimensions(compare_rolled_back):
    """An image field connects to post_init."""

    def declare():
        class Photo(models.Model):
            image = models.ImageField(width_field="width", height_field="height")
            width = models.IntegerField(null=True)
            height = models.IntegerField(null=True)

            class Meta:
                app_label = "shop"

        return Photo

    with isolate_apps("tests.system.shop"):
        earlier_class = declare()

    def scenario():
        with isolate_apps("tests.system.shop"):
            photo = declare()
        outcomes = []
        for model in (earlier_class, photo):
            outcomes.append(model(image="photo.png", width=3, height=4))
            try:
                outcomes.append(model(image="photo.png"))
            except FileNotFoundError as error:
                outcomes.append(type(error))
        return outcomes

    seen = compare_rolled_back(scenario, sent=INIT)
    assert seen.result[0][1::2] == ["builtins.FileNotFoundError"] * 2


# Classes


def declare_later():
    """Declare models, some of which refer to models that are declared later."""

    class Early(models.Model):
        later = models.ForeignKey("shop.Later", models.CASCADE)

        class Meta:
            app_label = "shop"

    class Later(models.Model):
        name = models.CharField(max_length=50)

        class Meta:
            app_label = "shop"
            db_table = Tag._meta.db_table

    class Special(Later):
        class Meta:
            app_label = "shop"
            proxy = True

    class Ideal(models.Model):
        class Meta:
            app_label = "shop"
            abstract = True

    return Early, Later, Special, Ideal


def test_class_prepared(compare):
    def has_models():
        return Product._meta.apps.get_models() != []

    def scenario():
        with isolate_apps("tests.system.shop"):
            return declare_later()

    seen = compare(scenario, sent=["class_prepared"], view=has_models)
    # Abstract classes send nothing.
    assert senders_of(seen.of("class_prepared")) == ["Early", "Later", "Special"]


def test_class_prepared_of_the_table_of_a_relation(compare):
    def scenario():
        with isolate_apps("tests.system.shop"):

            class Shelf(models.Model):
                tags = models.ManyToManyField(Tag)

                class Meta:
                    app_label = "shop"

    seen = compare(scenario, sent=["class_prepared"])
    assert len(seen.of("class_prepared")) == 2


def test_sender_named_before_it_exists(compare_rolled_back):
    def scenario():
        calls = []

        def receive(signal, sender, instance=None, **kwargs):
            calls.append((sender.__name__, instance and instance.pk, list(kwargs)))

        def disconnected(**kwargs):
            calls.append("not disconnected")

        with isolate_apps("tests.system.shop"):
            for signal in (pre_init, post_init, pre_save, post_save):
                signal.connect(receive, sender="shop.Later")
                signal.connect(disconnected, sender="shop.Later")
                signal.disconnect(disconnected, sender="shop.Later")
            waiting = [post_save.has_listeners(Tag), list(calls)]
            _, later, special, _ = declare_later()
            later.objects.create(name="new")
            special.objects.create(name="not of that sender")
            post_save.disconnect(receive, sender="shop.Later")
            later.objects.create(name="used")
            listeners = [s.has_listeners(later) for s in (pre_save, post_save)]
        return waiting, calls, listeners

    seen = compare_rolled_back(scenario)
    _, calls, listeners = seen.result[0]
    assert [pk for _, pk, _ in calls] == [None, None, None, 1, None, None, None]
    assert listeners == [True, False]


def test_invalid_lazy_senders(compare):
    def scenario():
        errors = []
        for sender in ("no dot", "too.many.dots", 3):
            try:
                post_save.connect(print, sender=sender)
            except (TypeError, ValueError) as error:
                errors.append(error)
            else:
                errors.append(post_save.disconnect(print, sender=sender))
        return errors

    seen = compare(scenario)
    assert [len(error) for error in seen.result[:2]] == [2, 2]


def test_signals_of_a_project(compare_rolled_back):
    """A project's own ModelSignal, with a lazy sender, sent during a save."""
    archived = ModelSignal(use_caching=True)

    def archive(instance, **kwargs):
        return archived.send(sender=type(instance), instance=instance)

    def scenario():
        calls = []

        def receive(signal, sender, instance):
            calls.append((signal is archived, sender, instance))
            return len(calls)

        archived.connect(receive, sender="shop.Product")
        with connected(post_save, archive, sender=Product):
            Product.objects.create(name="A lamp").save()
        results = archive(Product(name="A chair")), archive(Tag(name="new"))
        archived.disconnect(receive, sender="shop.Product")
        return calls, [[n for _, n in responses] for responses in results]

    seen = compare_rolled_back(scenario, sent=SAVE)
    calls, results = seen.result[0]
    assert len(calls) == 3
    assert results == [[3], []]


def test_signals_keep_their_identity(assert_same_swapped):
    signals = [class_prepared, pre_init, post_init, pre_save, post_save]

    def scenario():
        return [(id(s), type(s).__qualname__, s.use_caching) for s in signals]

    assert [caching for *_, caching in assert_same_swapped(scenario)] == [
        *(False, True, True, True, True)
    ]
