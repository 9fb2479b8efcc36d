/* Who is to be called: from a sender to its routes, and from these to receivers. */

#ifndef ALTDISPATCH_ROUTES_H
#define ALTDISPATCH_ROUTES_H

#include "guard.h"
#include "index.h"
#include "state.h"

#define SMALL_CROWD 16

typedef enum {
    FOUND,
    NOBODY,
    UNKNOWN, /* without an error: it's for Python to find out */
    FAILED,  /* with an error */
} answer;

/* Strong references to receivers, in the order in which they are to be called. */
typedef struct crowd {
    PyObject **items;
    Py_ssize_t count;
    PyObject *small[SMALL_CROWD];
} crowd;

/* Return whether a lock is of the usual type and nobody holds it: to take it and to
 * release it again could not be noticed then. The type is gevent's or eventlet's if they
 * have patched the standard library. Locks that can't tell are for Python to take. */
static inline int
is_unlocked(module_state *state, PyObject *lock)
{
    if (!Py_IS_TYPE(lock, (PyTypeObject *)state->owned.lock_type)) {
        return 0;
    }
    PyObject *locked = PyObject_CallMethodNoArgs(lock, state->names.locked);
    if (locked == NULL) {
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(locked);
    return locked == Py_False;
}

/* Return whether the keys of entries are made as ever, by Django's own function. */
static inline int
makes_ids(module_state *state)
{
    return get_at(state->owned.stock, state->names.make_id, &state->make_id_place)
           == state->owned.make_id;
}

/* Return whether weak references are made as ever, and not by a mock of a test's. */
static inline int
makes_references(module_state *state)
{
    return get_at(state->owned.weakref, state->names.ref, &state->ref_place)
           == (PyObject *)&_PyWeakref_RefType;
}

/* Return the index of `receivers`, borrowed, if it's a compiled one and good. */
static inline index_object *
get_index(module_state *state, PyObject *receivers)
{
    if (!Py_IS_TYPE(receivers, (PyTypeObject *)state->owned.receivers_type)) {
        return NULL;
    }
    PyObject *memory = get_slot(receivers, state->memory);
    if (memory == NULL || !Py_IS_TYPE(memory, (PyTypeObject *)state->owned.index_type)
        || !covers((index_object *)memory, receivers)) {
        return NULL;
    }
    return (index_object *)memory;
}

/* Return the index of `receivers`, a new reference, made now if that's needed; NULL
 * with an error, or without one if the list has to be scanned. The signal's lock is
 * held. */
static index_object *
find_index(module_state *state, PyObject *receivers)
{
    index_object *index = get_index(state, receivers);
    if (index != NULL) {
        return (index_object *)Py_NewRef(index);
    }
    PyObject *found = PyObject_CallMethodNoArgs(receivers, state->names.find_index);
    if (found != NULL && !Py_IS_TYPE(found, (PyTypeObject *)state->owned.index_type)) {
        Py_CLEAR(found);
    }
    return (index_object *)found;
}

/* Return the key that a sender is registered by, if it's its id; NULL with an error, or
 * without one if it may be something else. */
static PyObject *
make_sender_key(module_state *state, PyObject *sender)
{
    PyObject *function;
    int found = optional_attribute(sender, state->names.func, &function);
    if (found != 0) {
        Py_XDECREF(function);
        return NULL;
    }
    return PyLong_FromVoidPtr(sender);
}

/* Have the index of the receivers remember the key that a cache has for `sender`. */
static inline void
remember_cache_key(module_state *state, PyObject *receivers, PyObject *sender,
                   PyObject *reference)
{
    index_object *index = PyType_Check(sender) ? get_index(state, receivers) : NULL;
    PyObject **key = index == NULL ? NULL : find_cache_key(index, sender);
    if (key != NULL) {
        Py_XSETREF(*key, Py_NewRef(reference));
    }
}

/* Have the cache, whose `data` and `remove` these are, remember a sender's routes. The
 * signal's lock is held. */
static answer
cache_routes(module_state *state, PyObject *receivers, PyObject *sender, PyObject *data,
             PyObject *remove, PyObject **routes)
{
    PyObject *key = make_sender_key(state, sender);
    if (key == NULL) {
        return PyErr_Occurred() ? FAILED : UNKNOWN;
    }
    index_object *index = find_index(state, receivers);
    if (index == NULL) {
        Py_DECREF(key);
        return PyErr_Occurred() ? FAILED : UNKNOWN;
    }
    PyObject *found = find_routes(state, index, key);
    Py_DECREF(index);
    Py_DECREF(key);
    if (found == NULL) {
        return FAILED;
    }
    int is_any = PyList_GET_SIZE(found) > 0;
    PyObject *reference = PyWeakref_NewRef(sender, remove);
    if (reference == NULL
        || PyDict_SetItem(data, reference, is_any ? found : state->owned.no_receivers)
               < 0) {
        Py_XDECREF(reference);
        Py_DECREF(found);
        return FAILED;
    }
    remember_cache_key(state, receivers, sender, reference);
    Py_DECREF(reference);
    if (!is_any) {
        Py_DECREF(found);
        return NOBODY;
    }
    *routes = found;
    return FOUND;
}

/* Return whether the signal has the same list still, and nothing dead. To acquire a
 * lock may take a while, even if nobody seems to have it: one that waited for it does,
 * before it says so. */
static inline int
is_unchanged(module_state *state, attributes *signal)
{
    attributes now;
    return read_attributes(state, signal->self, &now)
           && now.receivers == signal->receivers && now.dead_receivers == Py_False;
}

/* Find the routes of a sender that isn't in the signal's cache, and put them there. The
 * caller has references to all that it gives. */
Py_NO_INLINE static answer
learn_routes(module_state *state, attributes *signal, PyObject *sender, PyObject *data,
             PyObject *remove, PyObject **routes)
{
    if (remove == NULL
        || !Py_IS_TYPE(signal->receivers, (PyTypeObject *)state->owned.receivers_type)
        || !finds_attributes_unnoticed(sender) || !makes_ids(state)
        || !is_unlocked(state, signal->lock)) {
        return UNKNOWN;
    }
    Py_INCREF(remove);
    answer answer = FAILED;
    PyObject *released = NULL;
    PyObject *acquired = PyObject_CallMethodNoArgs(signal->lock, state->names.acquire);
    if (acquired != NULL) {
        Py_DECREF(acquired);
        answer = UNKNOWN;
        if (is_unchanged(state, signal)) {
            answer =
                cache_routes(state, signal->receivers, sender, data, remove, routes);
        }
        PyObject *error = answer == FAILED ? take_raised_exception() : NULL;
        released = PyObject_CallMethodNoArgs(signal->lock, state->names.release);
        if (released == NULL) {
            if (answer == FOUND) {
                Py_CLEAR(*routes);
            }
            Py_XDECREF(error);
            answer = FAILED;
        }
        else if (error != NULL) {
            raise_exception(error);
        }
    }
    Py_XDECREF(released);
    Py_DECREF(remove);
    return answer;
}

/* Return what a cache has for `sender`, a new reference; NULL if that's nothing, maybe
 * with an error. */
static inline PyObject *
look_up(module_state *state, PyObject *receivers, PyObject *data, PyObject *sender)
{
    /* Nearly all senders are classes. What others leave may not be worth keeping. */
    index_object *index = PyType_Check(sender) ? get_index(state, receivers) : NULL;
    PyObject **key = index == NULL ? NULL : find_cache_key(index, sender);
    if (key != NULL && *key != NULL && refers_to(*key, sender)) {
        PyObject *found = PyDict_GetItemWithError(data, *key);
        if (found != NULL) {
            return Py_NewRef(found);
        }
    }
    PyObject *reference = PyWeakref_NewRef(sender, NULL);
    if (reference == NULL) {
        return NULL;
    }
    PyObject *found = Py_XNewRef(PyDict_GetItemWithError(data, reference));
    Py_DECREF(reference);
    return found;
}

/* Return the dict of a cache whose attributes these are, borrowed; NULL, without an
 * error, if it isn't there or of another kind. */
static inline PyObject *
get_data(module_state *state, PyObject *contents)
{
    PyObject *data = get_at(contents, state->names.data, &state->data_place);
    return data != NULL && PyDict_CheckExact(data) ? data : NULL;
}

/* Find what the cache of a signal has for `sender`, or put it there. A list in
 * `*routes` is owned by the caller. */
static inline answer
recall_cached(module_state *state, attributes *signal, PyObject *sender,
              PyObject **routes)
{
    PyObject *contents, *data;
    if (!Py_IS_TYPE(signal->cache, (PyTypeObject *)state->owned.cache_type)
        || (contents = instance_dict(signal->cache)) == NULL
        || (data = get_data(state, contents)) == NULL
        || !PyType_SUPPORTS_WEAKREFS(Py_TYPE(sender)) /* There's an error due. */
        || !makes_references(state)) {
        return UNKNOWN;
    }
    /* Making a reference may collect garbage. */
    Py_INCREF(contents);
    Py_INCREF(data);
    answer answer = UNKNOWN;
    PyObject *found = look_up(state, signal->receivers, data, sender);
    if (found == state->owned.no_receivers) {
        answer = NOBODY;
    }
    else if (found == NULL) {
        answer = PyErr_Occurred()
                     ? FAILED
                     : learn_routes(state, signal, sender, data,
                                    get(contents, state->names.remove), routes);
    }
    else if (Py_IS_TYPE(found, (PyTypeObject *)state->owned.routes_type)
             || PyList_CheckExact(found)) {
        *routes = Py_NewRef(found);
        answer = FOUND;
    }
    Py_XDECREF(found);
    Py_DECREF(data);
    Py_DECREF(contents);
    return answer;
}

/* Find what the index of the receivers of a signal remembers for `sender`. */
static inline answer
recall_indexed(module_state *state, attributes *signal, PyObject *sender,
               PyObject **routes)
{
    if (!Py_IS_TYPE(signal->receivers, (PyTypeObject *)state->owned.receivers_type)
        || !PyDict_CheckExact(signal->cache) || PyDict_GET_SIZE(signal->cache) != 0
        || !makes_ids(state) || !is_unlocked(state, signal->lock)) {
        return UNKNOWN;
    }
    if (PyList_GET_SIZE(signal->receivers) == 0) {
        return NOBODY;
    }
    index_object *index = get_index(state, signal->receivers);
    if (index == NULL || !index->plain) {
        return UNKNOWN;
    }
    last_routes *last = find_last_routes(index, sender);
    if (last != NULL && last->sender == sender) {
        *routes = Py_NewRef(last->routes);
        return FOUND;
    }
    PyObject *key = PyLong_FromVoidPtr(sender);
    if (key == NULL) {
        return FAILED;
    }
    PyObject *found = PyDict_GetItemWithError(index->routes, key);
    if (found == NULL && find_node(&index->by_sender, NULL, key) == NULL) {
        found = PyDict_GetItemWithError(index->routes, state->owned.none_id);
    }
    Py_DECREF(key);
    if (found == NULL) {
        return UNKNOWN;
    }
    *routes = Py_NewRef(found);
    if (last != NULL) {
        last->sender = sender;
        Py_XSETREF(last->routes, Py_NewRef(found));
    }
    return FOUND;
}

/* Find the routes of a sender of a signal whose class is plain. */
static inline answer
recall(module_state *state, attributes *signal, PyObject *sender, PyObject **routes)
{
    if (signal->dead_receivers != Py_False) {
        return UNKNOWN;
    }
    if (signal->use_caching == Py_True) {
        return recall_cached(state, signal, sender, routes);
    }
    if (signal->use_caching == Py_False) {
        return recall_indexed(state, signal, sender, routes);
    }
    return UNKNOWN;
}

/* Return what a reference refers to: a new reference, or NULL with an error, or NULL
 * without one if it is dead. */
static inline PyObject *
resolve_reference(module_state *state, PyObject *reference)
{
    if (Py_IS_TYPE(reference, &_PyWeakref_RefType)) {
        return referent(reference);
    }
    if (Py_IS_TYPE(reference, (PyTypeObject *)state->owned.weak_method_type)
        && get_slot(reference, state->weak_method_kind) == (PyObject *)&PyMethod_Type) {
        PyObject *function_ref = get_slot(reference, state->weak_method_function);
        if (function_ref != NULL && Py_IS_TYPE(function_ref, &_PyWeakref_RefType)) {
            PyObject *method = NULL;
            PyObject *owner = referent(reference);
            PyObject *function = referent(function_ref);
            if (owner != NULL && function != NULL) {
                method = PyMethod_New(function, owner);
            }
            Py_XDECREF(owner);
            Py_XDECREF(function);
            return method;
        }
    }
    PyObject *object = PyObject_CallNoArgs(reference);
    if (object == Py_None) {
        Py_CLEAR(object);
    }
    return object;
}

/* Return which of the two a route's receiver belongs to; NULL if that's not asked for,
 * or if it isn't a route as they are made. */
static inline crowd *
find_place(module_state *state, PyObject *route, crowd *synchronous,
           crowd *asynchronous)
{
    if (!PyTuple_CheckExact(route) || PyTuple_GET_SIZE(route) != state->route_length) {
        return NULL;
    }
    PyObject *is_async = PyTuple_GET_ITEM(route, state->route_length - 1);
    if (is_async == Py_False) {
        return synchronous;
    }
    return is_async == Py_True ? asynchronous : NULL;
}

/* Find the receiver of a route, if it and the sender it registered for are alive. The
 * reference in `*receiver` is a new one. */
static inline answer
resolve_route(module_state *state, PyObject *route, PyObject **receiver)
{
    PyObject *object = PyTuple_GET_ITEM(route, 0);
    if (!PyWeakref_Check(object)) {
        Py_INCREF(object);
    }
    else {
        object = resolve_reference(state, object);
        if (object == NULL) {
            return PyErr_Occurred() ? FAILED : NOBODY;
        }
    }
    if (state->route_length == 3) {
        PyObject *sender_ref = PyTuple_GET_ITEM(route, 1);
        if (sender_ref != Py_None) {
            if (!Py_IS_TYPE(sender_ref, &_PyWeakref_RefType)) {
                Py_DECREF(object);
                return UNKNOWN;
            }
            if (!is_alive(sender_ref)) {
                Py_DECREF(object);
                return NOBODY;
            }
        }
    }
    *receiver = object;
    return FOUND;
}

static inline void
gather_nobody(crowd *crowd)
{
    crowd->count = 0;
    crowd->items = crowd->small;
}

static void
dismiss(crowd *crowd)
{
    while (crowd->count > 0) {
        Py_DECREF(crowd->items[--crowd->count]);
    }
    if (crowd->items != crowd->small) {
        PyMem_Free(crowd->items);
    }
}

/* Have room for so many. Return -1 with an error if there's no memory. */
static inline int
give_room(crowd *crowd, Py_ssize_t room)
{
    if (room > SMALL_CROWD) {
        PyObject **items = PyMem_New(PyObject *, room);
        if (items == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        crowd->items = items;
    }
    return 0;
}

/* Gather the receivers of `routes`; without `asynchronous`, it's UNKNOWN who they are
 * if there is one of those. After FOUND and NOBODY, dismiss() is due; NOBODY has the
 * same as FOUND, of nothing. */
static answer
resolve(module_state *state, PyObject *routes, crowd *crowd, struct crowd *asynchronous)
{
    Py_ssize_t room = PyList_GET_SIZE(routes);
    if (give_room(crowd, room) < 0
        || (asynchronous != NULL && give_room(asynchronous, room) < 0)) {
        dismiss(crowd);
        return FAILED;
    }
    answer answer = FOUND;
    int is_any = 0;
    /* A collection of garbage may run any code, which may edit the list. */
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(routes); i++) {
        PyObject *receiver = NULL;
        PyObject *route = Py_NewRef(PyList_GET_ITEM(routes, i));
        struct crowd *place = find_place(state, route, crowd, asynchronous);
        answer = place == NULL || place->count == room
                     ? UNKNOWN
                     : resolve_route(state, route, &receiver);
        Py_DECREF(route);
        if (answer == FOUND) {
            place->items[place->count++] = receiver;
            is_any = 1;
        }
        else if (answer != NOBODY) {
            break;
        }
    }
    if (answer == UNKNOWN || answer == FAILED) {
        dismiss(crowd);
        if (asynchronous != NULL) {
            dismiss(asynchronous);
        }
        return answer;
    }
    return is_any ? FOUND : NOBODY;
}

#endif
