/* Find the receivers of a send: from the sender to its entries or routes, and from
 * these to the receivers. This does what scan() and resolve() in receivers.py do. */

#ifndef ALTDISPATCH_RECEIVERS_H
#define ALTDISPATCH_RECEIVERS_H

#include "guard.h"
#include "stack.h"
#include "state.h"

/* The longest list that is scanned here. Longer lists are left to Python's index, which
 * takes as long as scanning this many entries. */
#define MOST_SCANNED 500

typedef enum {
    FOUND,
    NOBODY,
    CALL_METHOD, /* the signal's `_live_receivers` is to be called */
    UNKNOWN,     /* without an error: Python has to find out */
    FAILED,      /* with an error */
} lookup_result;

/* The method that looks for receivers. */
typedef enum {
    LIVE_RECEIVERS,
    HAS_LISTENERS, /* makes no lists */
    SEND,          /* UNKNOWN if there are asynchronous receivers */
} lookup_purpose;

/* The receivers that a look-up has found. */
typedef struct {
    PyObject *lists[2]; /* owned, synchronous and asynchronous; NULL: there are none */
    lookup_purpose purpose;
    int is_any;
} living_receivers;

static inline void
clear_living(living_receivers *living)
{
    Py_CLEAR(living->lists[0]);
    Py_CLEAR(living->lists[1]);
}

/* Return 1 if `object` is certainly not a weak reference. isinstance() also reads
 * __class__, for which mocks and proxies may return any class. */
static inline int
is_no_reference(module_state *state, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    return type == &PyFunction_Type || type == &PyMethod_Type
           || (type_attribute(type, state->names.getattribute)
                   == state->owned.object_getattribute
               && !PyWeakref_Check(object)
               && type_attribute(type, state->names.class_)
                      == state->owned.object_class);
}

/* Find the bound method of a WeakMethod, as WeakMethod.__call__() does. */
static lookup_result
resolve_method(module_state *state, PyObject *reference, PyObject **found)
{
    if (state->weak_method_function < 0 || state->weak_method_kind < 0
        || get_slot(reference, state->weak_method_kind) != (PyObject *)&PyMethod_Type) {
        return UNKNOWN;
    }
    PyObject *function_ref = get_slot(reference, state->weak_method_function);
    if (function_ref == NULL || !PyWeakref_CheckRefExact(function_ref)) {
        return UNKNOWN;
    }
    lookup_result result = NOBODY;
    PyObject *owner = referent(reference);
    PyObject *function = owner == NULL ? NULL : referent(function_ref);
    if (function != NULL) {
        *found = PyMethod_New(function, owner);
        result = *found == NULL ? FAILED : FOUND;
    }
    Py_XDECREF(owner);
    Py_XDECREF(function);
    return result;
}

/* Find the receiver of an entry, which holds the receiver or a weak reference to it. If
 * the result is FOUND, `*receiver` is a new reference. */
static inline lookup_result
resolve_receiver(module_state *state, PyObject *object, PyObject **receiver)
{
    if (PyWeakref_CheckRefExact(object)) {
        *receiver = referent(object);
        return *receiver == NULL ? NOBODY : FOUND;
    }
    if (Py_IS_TYPE(object, (PyTypeObject *)state->owned.weak_method_type)) {
        return resolve_method(state, object, receiver);
    }
    if (!is_no_reference(state, object)) {
        return UNKNOWN;
    }
    *receiver = Py_NewRef(object);
    return FOUND;
}

/* Return FOUND if the sender of a route is alive or unknown, NOBODY if it is dead. */
static inline lookup_result
check_sender(PyObject *reference)
{
    if (reference == Py_None) {
        return FOUND;
    }
    if (!PyWeakref_CheckRefExact(reference)) {
        return UNKNOWN;
    }
    PyObject *sender = referent(reference);
    Py_XDECREF(sender); /* The caller of the send holds another reference. */
    return sender == NULL ? NOBODY : FOUND;
}

/* Add the receiver of a route to `living`, if it is alive. `items` is a route, or an
 * entry, which has a lookup key before the route: `begin` is where the route begins.
 * The caller owns a reference to `items`. */
static inline lookup_result
add_living(module_state *state, PyObject *items, Py_ssize_t begin,
           living_receivers *living)
{
    PyObject *receiver;
    PyObject *is_async = PyTuple_GET_ITEM(items, PyTuple_GET_SIZE(items) - 1);
    if (is_async != Py_False && (is_async != Py_True || living->purpose == SEND)) {
        return UNKNOWN;
    }
    if (state->entry_length == 4) {
        lookup_result sender = check_sender(PyTuple_GET_ITEM(items, begin + 1));
        if (sender != FOUND) {
            return sender;
        }
    }
    lookup_result result =
        resolve_receiver(state, PyTuple_GET_ITEM(items, begin), &receiver);
    if (result != FOUND) {
        return result;
    }
    living->is_any = 1;
    PyObject **list = &living->lists[is_async == Py_True];
    if (living->purpose != HAS_LISTENERS
        && ((*list == NULL && (*list = PyList_New(0)) == NULL)
            || PyList_Append(*list, receiver) < 0)) {
        result = FAILED;
    }
    Py_DECREF(receiver);
    return result;
}

/* Find the receivers of routes. */
static lookup_result
resolve(module_state *state, PyObject *routes, living_receivers *living)
{
    /* A garbage collection may run any code, which may edit the list. */
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(routes); i++) {
        PyObject *route = PyList_GET_ITEM(routes, i);
        if (!PyTuple_CheckExact(route)
            || PyTuple_GET_SIZE(route) != state->entry_length - 1) {
            return UNKNOWN;
        }
        Py_INCREF(route);
        lookup_result result = add_living(state, route, 0, living);
        Py_DECREF(route);
        if (result == UNKNOWN || result == FAILED) {
            return result;
        }
    }
    return living->is_any ? FOUND : NOBODY;
}

/* Return FOUND if an entry is for the sender with this id or for all senders, NOBODY if
 * it is for another, UNKNOWN if connect() can't have made it. */
static inline lookup_result
check_entry(module_state *state, PyObject *entry, const void *id)
{
    if (!PyTuple_CheckExact(entry) || PyTuple_GET_SIZE(entry) != state->entry_length) {
        return UNKNOWN;
    }
    PyObject *key = PyTuple_GET_ITEM(entry, 0);
    if (!PyTuple_CheckExact(key) || PyTuple_GET_SIZE(key) != 2) {
        return UNKNOWN;
    }
    PyObject *sender_key = PyTuple_GET_ITEM(key, 1);
    if (!PyLong_CheckExact(sender_key)) {
        /* The key of a bound method is a tuple, which is equal to no number. */
        return PyTuple_CheckExact(sender_key) ? NOBODY : UNKNOWN;
    }
    void *wanted = PyLong_AsVoidPtr(sender_key);
    if (wanted == id || wanted == Py_None) {
        return FOUND;
    }
    if (wanted == NULL && PyErr_Occurred()) {
        PyErr_Clear();
        return UNKNOWN;
    }
    return NOBODY;
}

/* Find the receivers of a sender, by its id, in the entries of a signal. */
static lookup_result
resolve_entries(module_state *state, PyObject *entries, PyObject *sender,
                living_receivers *living)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(entries); i++) {
        PyObject *entry = PyList_GET_ITEM(entries, i);
        lookup_result result = check_entry(state, entry, sender);
        if (result == FOUND) {
            Py_INCREF(entry);
            result = add_living(state, entry, 1, living);
            Py_DECREF(entry);
        }
        if (result == UNKNOWN || result == FAILED) {
            return result;
        }
    }
    return living->is_any ? FOUND : NOBODY;
}

/* Return a new list of the routes of a sender, by its id. On error, return NULL with an
 * exception set. To leave the work to Python, return NULL without one; nothing has been
 * changed yet. */
static PyObject *
scan(module_state *state, PyObject *entries, PyObject *sender)
{
    PyObject *routes = PyList_New(0);
    for (Py_ssize_t i = 0; routes != NULL && i < PyList_GET_SIZE(entries); i++) {
        PyObject *entry = PyList_GET_ITEM(entries, i);
        lookup_result result = check_entry(state, entry, sender);
        if (result == FOUND) {
            Py_INCREF(entry);
            PyObject *route = PyTuple_GetSlice(entry, 1, state->entry_length);
            Py_DECREF(entry);
            if (route == NULL || PyList_Append(routes, route) < 0) {
                Py_CLEAR(routes);
            }
            Py_XDECREF(route);
        }
        else if (result == UNKNOWN) {
            Py_CLEAR(routes);
        }
    }
    return routes;
}

/* Call a Python function to find the receivers. Pass `second` too unless it is NULL. It
 * returns two lists. */
static lookup_result
find_in_python(PyObject *function, PyObject *first, PyObject *second,
               living_receivers *living)
{
    clear_living(living);
    PyObject *found = PyObject_CallFunctionObjArgs(function, first, second, NULL);
    if (found == NULL) {
        return FAILED;
    }
    lookup_result result = NOBODY;
    for (int i = 0; i < 2; i++) {
        PyObject *list = PyTuple_GET_ITEM(found, i);
        if (PyList_GET_SIZE(list) != 0) {
            result = FOUND;
        }
        if (living->purpose == LIVE_RECEIVERS) {
            living->lists[i] = Py_NewRef(list);
        }
    }
    Py_DECREF(found);
    return result;
}

/* Return whether the entries of a signal can be scanned here for a sender: by the id of
 * the sender, and without the lock that Django's code acquires. */
static inline int
can_scan(module_state *state, signal_attributes *signal, PyObject *sender)
{
    return PyList_GET_SIZE(signal->receivers) <= MOST_SCANNED
           && get_at(state->owned.stock, state->names.make_id, &state->make_id_place)
                  == state->owned.make_id
           && has_no_function(state, sender) && is_unlocked(state, signal->lock);
}

/* Find the receivers of a sender of a signal that doesn't cache. */
static lookup_result
find_uncached(module_state *state, signal_attributes *signal, PyObject *sender,
              living_receivers *living)
{
    if (!PyDict_CheckExact(signal->cache) || PyDict_GET_SIZE(signal->cache) != 0
        || !can_scan(state, signal, sender)) {
        return UNKNOWN;
    }
    return resolve_entries(state, signal->receivers, sender, living);
}

/* Return the routes of a sender, and store them in the signal's cache. The caller holds
 * the lock. On error, return NULL with an exception set. To leave the work to Python,
 * return NULL without one; nothing has been changed yet. */
static PyObject *
cache_routes(module_state *state, PyObject *self, signal_attributes *signal,
             PyObject *sender)
{
    /* Another thread may have changed the signal before the lock was acquired. */
    signal_attributes now;
    if (!read_attributes(state, self, &now)) {
        return NULL;
    }
    int is_unchanged = now.receivers == signal->receivers && now.cache == signal->cache
                       && now.dead_receivers == Py_False;
    clear_attributes(&now);
    PyObject *routes = is_unchanged ? scan(state, signal->receivers, sender) : NULL;
    if (routes != NULL
        && PyObject_SetItem(signal->cache, sender,
                            PyList_GET_SIZE(routes) == 0 ? state->owned.no_receivers
                                                         : routes)
               < 0) {
        Py_CLEAR(routes);
    }
    return routes;
}

/* Find the receivers of a sender that isn't in the signal's cache, and store its routes
 * there. */
static lookup_result
find_and_cache(module_state *state, PyObject *self, signal_attributes *signal,
               PyObject *sender, living_receivers *living)
{
    if (!can_scan(state, signal, sender)) {
        return UNKNOWN;
    }
    PyObject *done = PyObject_CallMethodNoArgs(signal->lock, state->names.acquire);
    if (done == NULL) {
        return FAILED;
    }
    Py_DECREF(done);
    PyObject *routes = cache_routes(state, self, signal, sender);
    PyObject *error = PyErr_Occurred() ? take_raised_exception() : NULL;
    done = PyObject_CallMethodNoArgs(signal->lock, state->names.release);
    lookup_result result = routes == NULL ? UNKNOWN : FOUND;
    if (done == NULL) {
        Py_XDECREF(error);
        result = FAILED;
    }
    else if (error != NULL) {
        raise_exception(error);
        result = FAILED;
    }
    Py_XDECREF(done);
    if (result == FOUND) {
        result = resolve(state, routes, living);
    }
    Py_XDECREF(routes);
    return result;
}

/* Return whether a key of a signal's cache is a sender's. Compare the hashes too: the
 * key keeps its old hash, and the sender's class may have changed. Neither hash call
 * can fail. */
static inline int
is_key_of(PyObject *key, PyObject *sender)
{
    return is_reference_to(key, sender) && PyObject_Hash(key) == PyObject_Hash(sender);
}

/* Return the key that the dict of a signal's cache has for a sender, a new reference;
 * NULL, without an error, if it isn't where it was at the last look-up. Reusing this
 * key is cheaper than creating and hashing a new weak reference: it saves 5 % of a send
 * without receivers. Searching for a key that has moved costs more, so it is done only
 * after several misses. */
static PyObject *
find_key(module_state *state, PyObject *data, PyObject *sender)
{
    uintptr_t hash = ((uintptr_t)data >> 4) * 31 + ((uintptr_t)sender >> 4);
    cache_hint *hint = &state->cache_hints[hash % CACHE_HINTS];
    if (hint->data != data || hint->sender != sender) {
        *hint = (cache_hint){data, sender, 0, 0};
    }
    PyObject *key;
    Py_ssize_t next = hint->place;
    if (PyDict_Next(data, &next, &key, NULL) && is_key_of(key, sender)) {
        return Py_NewRef(key);
    }
    if (++hint->misses * 4 < PyDict_GET_SIZE(data)) {
        return NULL;
    }
    hint->misses = 0;
    next = 0;
    do {
        hint->place = next;
        if (!PyDict_Next(data, &next, &key, NULL)) {
            return NULL;
        }
    } while (!is_key_of(key, sender));
    return Py_NewRef(key);
}

/* Find the item of a sender in a signal's cache. If the result is FOUND, `*found` is a
 * new reference. NOBODY means that there is none. */
static lookup_result
read_cache(module_state *state, PyObject *cache, PyObject *sender, PyObject **found)
{
    if (!Py_IS_TYPE(cache, (PyTypeObject *)state->owned.cache_type)
        || !PyType_SUPPORTS_WEAKREFS(Py_TYPE(sender)) /* Python raises the error. */
        || get_at(state->owned.weakref, state->names.ref, &state->ref_place)
               != REFERENCE_TYPE /* A test has replaced it. */) {
        return UNKNOWN;
    }
    PyObject *held = PyObject_GenericGetDict(cache, NULL);
    PyObject *data =
        held == NULL ? NULL
                     : Py_XNewRef(get_at(held, state->names.data, &state->data_place));
    lookup_result result = UNKNOWN;
    if (data != NULL && PyDict_CheckExact(data)) {
        PyObject *key = has_plain_hash(sender) ? find_key(state, data, sender) : NULL;
        if (key == NULL) {
            key = PyWeakref_NewRef(sender, NULL);
        }
        *found = key == NULL ? NULL : dict_item(data, key);
        Py_XDECREF(key);
        result = *found == NULL ? NOBODY : FOUND;
    }
    Py_XDECREF(data);
    Py_XDECREF(held);
    return result != FOUND && PyErr_Occurred() ? FAILED : result;
}

/* Find the receivers of a sender of a signal that caches. A sender with its own
 * __hash__ can count look-ups. If Python has to finish, it continues from here and
 * doesn't look the sender up again. */
static lookup_result
find_cached(module_state *state, PyObject *self, signal_attributes *signal,
            PyObject *sender, living_receivers *living)
{
    PyObject *found = NULL;
    lookup_result result = read_cache(state, signal->cache, sender, &found);
    int is_plain = has_plain_hash(sender);
    if (result == NOBODY || found == Py_None) {
        Py_XDECREF(found);
        return is_plain
                   ? find_and_cache(state, self, signal, sender, living)
                   : find_in_python(state->owned.find_and_cache, self, sender, living);
    }
    if (result == FOUND) {
        if (found == state->owned.no_receivers) {
            result = NOBODY;
        }
        else {
            result = PyList_CheckExact(found) ? resolve(state, found, living) : UNKNOWN;
            if (result == UNKNOWN && !is_plain) {
                result = find_in_python(state->owned.resolve, found, NULL, living);
            }
        }
        Py_DECREF(found);
    }
    return result;
}

/* Return CALL_METHOD if a send has to call `_live_receivers`, NOBODY if the cache says
 * that the sender has no receivers. As in Django, this hashes the sender, and fails
 * with the dict's own error if that isn't possible. */
static lookup_result
check_cache(module_state *state, signal_attributes *signal, PyObject *sender)
{
    if (PyDict_CheckExact(signal->cache) && PyDict_GET_SIZE(signal->cache) == 0) {
        return PyDict_Contains(signal->cache, sender) < 0 ? FAILED : CALL_METHOD;
    }
    PyObject *found;
    lookup_result result = read_cache(state, signal->cache, sender, &found);
    if (result == NOBODY) {
        return CALL_METHOD;
    }
    if (result == FOUND) {
        result = found == state->owned.no_receivers ? NOBODY : CALL_METHOD;
        Py_DECREF(found);
    }
    return result;
}

/* Return whether the signal's `_live_receivers` has to be called: it is patched, or the
 * sender's own code can notice how often it is looked up. */
static inline int
must_call_method(type_kind kind, const signal_attributes *signal, PyObject *sender,
                 lookup_purpose purpose)
{
    return kind == REPLACED_LOOKUP || signal->has_own_lookup
           || (purpose == SEND && !has_plain_hash(sender));
}

/* Find the receivers of a sender of a signal whose receivers are a list. */
static inline lookup_result
look_up(module_state *state, PyObject *signal, signal_attributes *attributes,
        type_kind kind, PyObject *sender, living_receivers *living)
{
    if (living->purpose != LIVE_RECEIVERS
        && must_call_method(kind, attributes, sender, living->purpose)) {
        return living->purpose == SEND ? check_cache(state, attributes, sender)
                                       : CALL_METHOD;
    }
    if (attributes->dead_receivers != Py_False) {
        return UNKNOWN;
    }
    if (attributes->use_caching == Py_True) {
        return find_cached(state, signal, attributes, sender, living);
    }
    if (attributes->use_caching == Py_False) {
        return find_uncached(state, attributes, sender, living);
    }
    return UNKNOWN;
}

/* Find the receivers of a sender of a signal. */
static lookup_result
find_living(module_state *state, PyObject *signal, PyObject *sender,
            living_receivers *living)
{
    signal_attributes attributes;
    lookup_result result = UNKNOWN;
    type_kind kind = find_kind(state, Py_TYPE(signal));
    if (kind == REPLACED_LOOKUP && living->purpose == HAS_LISTENERS) {
        return CALL_METHOD;
    }
    if (kind == NOT_PLAIN || !read_attributes(state, signal, &attributes)) {
        return UNKNOWN;
    }
    if (!PyList_CheckExact(attributes.receivers)
        && !Py_IS_TYPE(attributes.receivers,
                       (PyTypeObject *)state->owned.receivers_type)) {
        result = UNKNOWN;
    }
    else if (living->purpose == SEND && PyList_GET_SIZE(attributes.receivers) == 0) {
        result = NOBODY;
    }
    else if (enter_level() < 0) {
        result = FAILED;
    }
    else {
        /* Hashes and comparisons may run any code, which may release the module. */
        PyObject *module = Py_NewRef(state->module);
        result = look_up(state, signal, &attributes, kind, sender, living);
        Py_DECREF(module);
        Py_LeaveRecursiveCall();
    }
    clear_attributes(&attributes);
    if (result == UNKNOWN || result == FAILED) {
        clear_living(living);
    }
    return result;
}

#endif
