/* Check whether the fast path can handle a signal. If not, Python handles it. */

#ifndef ALTDISPATCH_GUARD_H
#define ALTDISPATCH_GUARD_H

#include "state.h"

/* Return whether an object is a value of a dict, compared by identity. The dict is NULL
 * after the module was cleared. */
static int
is_one_of(PyObject *dict, PyObject *object)
{
    Py_ssize_t place = 0;
    PyObject *value;
    while (dict != NULL && PyDict_Next(dict, &place, NULL, &value)) {
        if (value == object) {
            return 1;
        }
    }
    return 0;
}

/* Check that the instances of `type` have their attributes in their __dict__ only, and
 * that `_clear_dead_receivers`, which the fast path doesn't call, is ours. Then check
 * whether `_live_receivers` is ours too. */
static type_kind
check_type(module_state *state, PyTypeObject *type)
{
    owned_names *names = &state->names;
    int is_plain = is_one_of(state->owned.own_clear_dead_receivers,
                             type_attribute(type, names->clear_dead_receivers))
                   && type->tp_getattro == PyObject_GenericGetAttr
                   && type_attribute(type, names->receivers) == NULL
                   && type_attribute(type, names->lock) == NULL
                   && type_attribute(type, names->use_caching) == NULL
                   && type_attribute(type, names->sender_receivers_cache) == NULL
                   && type_attribute(type, names->dead_receivers) == NULL;
    if (!is_plain) {
        return NOT_PLAIN;
    }
    return is_one_of(state->owned.own_live_receivers,
                     type_attribute(type, names->live_receivers))
               ? OWN_LOOKUP
               : REPLACED_LOOKUP;
}

/* Return the result of check_type(), cached until the class or a base of it changes. */
static inline type_kind
find_kind(module_state *state, PyTypeObject *type)
{
    unsigned int version = type_version(type);
    if (version == 0) {
        /* A look-up gives the class a version, unless the class was changed some
         * thousand times. To check such a class each time is slower than Python. */
        (void)type_attribute(type, state->names.receivers);
        version = type_version(type);
        if (version == 0) {
            return NOT_PLAIN;
        }
    }
    known_type *known = &state->known_types[version % KNOWN_TYPES];
    if (known->version == version) {
        return known->kind;
    }
    type_kind kind = check_type(state, type);
    if (kind != NOT_PLAIN) {
        *known = (known_type){version, kind};
    }
    return kind;
}

/* The attributes of a signal, from its __dict__. Those used across calls are owned. */
typedef struct {
    PyObject *receivers; /* owned */
    PyObject *lock;      /* owned */
    PyObject *use_caching;
    PyObject *cache; /* owned */
    PyObject *dead_receivers;
    int has_own_lookup; /* a `_live_receivers` of the instance */
} signal_attributes;

#define ATTRIBUTES (offsetof(signal_attributes, has_own_lookup) / sizeof(PyObject *))

static inline void
clear_attributes(signal_attributes *signal)
{
    Py_DECREF(signal->receivers);
    Py_DECREF(signal->lock);
    Py_DECREF(signal->cache);
}

/* Read the items of a signal's __dict__, borrowed. Return whether the fast path can use
 * them: all are there, and the instance has no `_clear_dead_receivers` of its own.
 * Names must be interned strings, which are equal only if they are identical. */
static inline int
read_items(module_state *state, PyObject *held, signal_attributes *attributes)
{
    PyObject *const *names = (PyObject *const *)&state->names;
    PyObject **items = (PyObject **)attributes;
    attributes->has_own_lookup = 0;
    size_t found = 0;
    Py_ssize_t place = 0, left = PyDict_GET_SIZE(held);
    PyObject *name, *value;
    for (; left > 0 && PyDict_Next(held, &place, &name, &value); left--) {
        /* They are nearly always in the order of `names`. */
        size_t i = found;
        if (i >= ATTRIBUTES || name != names[i]) {
            if (!PyUnicode_CheckExact(name) || !PyUnicode_CHECK_INTERNED(name)
                || name == state->names.clear_dead_receivers) {
                return 0;
            }
            attributes->has_own_lookup |= name == state->names.live_receivers;
            for (i = 0; i < ATTRIBUTES && name != names[i]; i++) {
            }
        }
        if (i < ATTRIBUTES) {
            items[i] = value;
            found++;
        }
    }
    return found == ATTRIBUTES;
}

/* Read the attributes of a signal whose class is plain. If it returns 1, the caller has
 * to call clear_attributes(). */
static inline int
read_attributes(module_state *state, PyObject *signal, signal_attributes *attributes)
{
    PyObject *held = PyObject_GenericGetDict(signal, NULL);
    if (held == NULL) {
        PyErr_Clear();
        return 0;
    }
    int is_read = read_items(state, held, attributes);
    if (is_read) {
        Py_INCREF(attributes->receivers);
        Py_INCREF(attributes->lock);
        Py_INCREF(attributes->cache);
    }
    Py_DECREF(held);
    return is_read;
}

/* Return whether `sender` has no `__func__`, which methods have. Return 0 as well if
 * the sender's own code would have to run to find out. */
static inline int
has_no_function(module_state *state, PyObject *sender)
{
    PyTypeObject *type = Py_TYPE(sender);
    if (type_attribute(type, state->names.func) != NULL) {
        return 0;
    }
    if (type->tp_getattro == PyType_Type.tp_getattro) {
        return type_attribute((PyTypeObject *)sender, state->names.func) == NULL;
    }
    if (PyModule_CheckExact(sender)) {
        PyObject *held = PyModule_GetDict(sender);
        int is_found = PyDict_Contains(held, state->names.func) != 0
                       || PyDict_Contains(held, state->names.getattr) != 0;
        PyErr_Clear();
        return !is_found;
    }
    if (type->tp_getattro != PyObject_GenericGetAttr) {
        return 0;
    }
    PyObject *found = NULL;
    int is_found = optional_attribute(sender, state->names.func, &found);
    Py_XDECREF(found);
    PyErr_Clear();
    return is_found == 0;
}

/* Return whether to hash and compare `sender` runs none of a program's code. If so, a
 * program can't notice how often the sender is looked up. */
static inline int
has_plain_hash(PyObject *sender)
{
    PyTypeObject *type = Py_TYPE(sender);
    return (type->tp_hash == PyBaseObject_Type.tp_hash
            && type->tp_richcompare == PyBaseObject_Type.tp_richcompare)
           || sender == Py_None || PyUnicode_CheckExact(sender);
}

/* Return the value of a name in a dict, borrowed; NULL, without an error, if there is
 * none. `*place` is the position of the name at the last call, which rarely changes. */
static inline PyObject *
get_at(PyObject *dict, PyObject *name, Py_ssize_t *place)
{
    PyObject *found, *value;
    Py_ssize_t next = *place;
    if (PyDict_Next(dict, &next, &found, &value) && found == name) {
        return value;
    }
    next = 0;
    do {
        *place = next;
        if (!PyDict_Next(dict, &next, &found, &value)) {
            return NULL;
        }
    } while (found != name);
    return value;
}

/* Return whether a lock is of a known type and nothing holds it. Then a program can't
 * notice that the fast path doesn't acquire and release it. If gevent or eventlet has
 * patched the standard library, the types are theirs. Python acquires other locks. */
static inline int
is_unlocked(module_state *state, PyObject *lock)
{
    int is_free = 0;
    PyObject *answer = NULL;
    if (Py_IS_TYPE(lock, (PyTypeObject *)state->owned.lock_type)) {
        answer = PyObject_CallMethodNoArgs(lock, state->names.locked);
        is_free = answer == Py_False;
    }
    else if (Py_IS_TYPE(lock, (PyTypeObject *)state->owned.rlock_type)) {
        answer = PyObject_CallMethodOneArg(lock, state->names.acquire, Py_False);
        is_free = answer == Py_True;
        if (is_free) {
            Py_SETREF(answer, PyObject_CallMethodNoArgs(lock, state->names.release));
        }
    }
    Py_XDECREF(answer);
    PyErr_Clear();
    return is_free;
}

#endif
