"""Makes PyInstaller take what a program that it freezes needs of altdispatch."""

from PyInstaller.utils.hooks import collect_data_files

# Django imports these by name. Without its AppConfig, an app is there and does nothing.
hiddenimports = [
    "altdispatch.apps",
    "altdispatch.management.commands.altdispatch",
]

# Django's dispatcher is recognised by its source.
datas = collect_data_files(
    "django", include_py_files=True, includes=["dispatch/dispatcher.py"]
)
# The debug toolbar's panel has a template.
datas += collect_data_files("altdispatch", includes=["templates/**/*"])
