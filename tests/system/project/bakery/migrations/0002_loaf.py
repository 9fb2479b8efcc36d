from django.db import migrations


class Migration(migrations.Migration):
    dependencies = (("bakery", "0001_initial"),)
    operations = (
        migrations.RenameModel("Bread", "Loaf"),
        migrations.CreateModel("Bun", [], {"proxy": True}, ("bakery.loaf",)),
    )
