"""The contract of a drop-in ``Signal``, item by item.

========================================================  ============================
1. Public interface
--------------------------------------------------------------------------------------
names, parameters, defaults, kinds, errors                test_interface.py
``inspect``, ``help()``, ``mock.create_autospec``         test_interface.py
2. Dispatch
--------------------------------------------------------------------------------------
order, arguments, a new list of pairs                     test_dispatch.py
looked up before the first call; nesting, recursion       test_dispatch.py
``lookup_key``, falsy ``dispatch_uid``                    test_dispatch.py
``settings.DEBUG``                                        test_dispatch.py
weak by default; dead receivers and senders               test_lifetimes.py
senders: unhashable, not weak referenceable, equal        test_dispatch.py
``send(signal=...)``, missing or doubled ``sender``       test_dispatch.py
``send_robust``                                           test_dispatch.py
asynchronous receivers                                    test_async.py
3. What differs between releases
--------------------------------------------------------------------------------------
entries, death of a receiver, of a sender                 test_lifetimes.py
gather or group, context, errors, order, ``is_async``     test_async.py
4. Private interface
--------------------------------------------------------------------------------------
attributes, on every instance                             test_private_surface.py
``receivers`` replaced, edited, read                      test_private_surface.py
``_live_receivers``                                       test_private_surface.py
methods patched on class, subclass, instance              test_private_surface.py
subclasses that override and call ``super()``             test_private_surface.py
names in ``django.dispatch.dispatcher``                   test_private_surface.py
``copy``, ``deepcopy``, ``pickle``                        test_private_surface.py
5. Surroundings
--------------------------------------------------------------------------------------
identity; names imported before the swap                  test_identity.py
threads, fork, garbage collection, shutdown               test_concurrency.py
signals, descriptors, fork, exit, threads, greenlets      test_async_interruptions.py
order of steps of receivers and senders                   test_async_steps.py
recursion, stack                                          test_stack.py
========================================================  ============================
"""
