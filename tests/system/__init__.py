"""Run every component of Django that sends signals, stock and swapped.

A scenario runs on stock Django and then with altdispatch installed. ``recording.py``
records what receivers and the caller observe, as plain values, and ``conftest.py``
compares the two records. Receivers are connected before the swap, after it, or by
Django when it is imported.

=========================  ==================================================
Component                  Files
=========================  ==================================================
Signal dispatcher          all; its contract is in ``tests/contract``
Application configuration  ``test_apps.py``, with the project in ``project/``
ORM                        ``test_orm_save.py``, ``test_orm_delete.py``,
                           ``test_m2m.py``
HTTP handlers              ``test_http_wsgi.py``, ``test_http_asgi.py``
Authentication             ``test_auth.py``
Management commands        ``test_migrate.py``
Connections, settings,     ``test_other_signals.py``
templates
Autoreload                 ``test_autoreload.py``
Tasks (Django 6.0+)        ``test_tasks.py``
PostgreSQL                 ``test_postgresql.py``, and most of the above: see
                           ``tests/postgresql.py``
=========================  ==================================================

Their models, views and tasks are in the app ``shop/``.
"""
