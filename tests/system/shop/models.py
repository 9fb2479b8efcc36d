"""Models of each kind: abstract, proxy, inherited, and related in each way."""

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Named(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        abstract = True

    def __str__(self):
        return self.name


class Tag(Named):
    pass


class Product(Named):
    text = models.TextField(default="")
    price = models.IntegerField(default=0)
    tags = models.ManyToManyField(Tag, related_name="products")
    similar = models.ManyToManyField("self")


class Book(Product):
    """A subclass with a table of its own."""

    pages = models.IntegerField(default=0)


class Bargain(Product):
    class Meta:
        proxy = True


class Customer(Named):
    pass


class Remark(models.Model):
    """A generic relation; deleted with its object, if that has a GenericRelation."""

    text = models.TextField()
    # Without migrations, this app's tables are created before those of other apps.
    kind = models.ForeignKey(ContentType, models.CASCADE, db_constraint=False)
    number = models.PositiveIntegerField()
    on = GenericForeignKey("kind", "number")


class Order(models.Model):
    customer = models.ForeignKey(Customer, models.CASCADE, related_name="orders")
    products = models.ManyToManyField(Product, through="Line")
    remarks = GenericRelation(Remark, "number", "kind")


class Line(models.Model):
    order = models.ForeignKey(Order, models.CASCADE)
    product = models.ForeignKey(Product, models.PROTECT)
    quantity = models.IntegerField(default=1)


class Review(models.Model):
    product = models.ForeignKey(Product, models.CASCADE)
    customer = models.ForeignKey(Customer, models.SET_NULL, null=True)
    stars = models.IntegerField(default=5)


class Reply(models.Model):
    """Nothing refers to it, so Django may delete it without fetching it."""

    review = models.ForeignKey(Review, models.CASCADE)
    text = models.TextField()


class Voucher(models.Model):
    """Protects its review, unless the customer is deleted too."""

    customer = models.ForeignKey(Customer, models.CASCADE)
    review = models.ForeignKey(Review, models.RESTRICT, null=True)
