/* Whether a signal is one that the fast path may handle: the rest is for Python. */

#ifndef ALTDISPATCH_GUARD_H
#define ALTDISPATCH_GUARD_H

#include "state.h"

/* Return whether an object is in a list, by identity; nothing is in NULL. */
static int
is_one_of(PyObject *list, PyObject *object)
{
    if (list == NULL) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (PyList_GET_ITEM(list, i) == object) {
            return 1;
        }
    }
    return 0;
}

/* Look whether the instances of `type` have their attributes in their __dict__, and
 * nowhere else, and whether the methods that the fast path leaves out are ours. */
static int
look_at_type(module_state *state, PyTypeObject *type)
{
    owned_names *names = &state->names;
    return is_one_of(state->owned.own_live_receivers,
                     type_attribute(type, names->live_receivers))
           && is_one_of(state->owned.own_clear_dead_receivers,
                        type_attribute(type, names->clear_dead_receivers))
           && type->tp_getattro == PyObject_GenericGetAttr
           && type_attribute(type, names->receivers) == NULL
           && type_attribute(type, names->lock) == NULL
           && type_attribute(type, names->use_caching) == NULL
           && type_attribute(type, names->sender_receivers_cache) == NULL
           && type_attribute(type, names->dead_receivers) == NULL;
}

/* Return the same, remembered until the class, or a base of it, is changed. */
static inline int
is_plain_type(module_state *state, PyTypeObject *type)
{
    unsigned int version = type_version(type);
    if (version != 0 && state->plain_types[version % PLAIN_TYPES] == version) {
        return 1;
    }
    if (!look_at_type(state, type)) {
        return 0;
    }
    /* Looking gives a version to a class that had none; 0 stands for none. */
    version = type_version(type);
    state->plain_types[version % PLAIN_TYPES] = version;
    return 1;
}

/* A signal, and what it has in its __dict__; all borrowed. */
typedef struct {
    PyObject *self;
    PyObject *receivers;
    PyObject *lock;
    PyObject *use_caching;
    PyObject *cache;
    PyObject *dead_receivers;
} attributes;

/* Return whether a dict has a name next, with its value. */
static inline int
has_next(PyObject *dict, Py_ssize_t *place, PyObject *name, PyObject **value)
{
    PyObject *next;
    return PyDict_Next(dict, place, &next, value) && next == name;
}

/* Read a __dict__ that has the attributes in the order in which __init__() makes them,
 * and nothing else. Return whether it does. */
static inline int
read_usual_attributes(module_state *state, PyObject *held, attributes *signal)
{
    owned_names *names = &state->names;
    Py_ssize_t place = 0;
    return PyDict_GET_SIZE(held) == 5
           && has_next(held, &place, names->receivers, &signal->receivers)
           && has_next(held, &place, names->lock, &signal->lock)
           && has_next(held, &place, names->use_caching, &signal->use_caching)
           && has_next(held, &place, names->sender_receivers_cache, &signal->cache)
           && has_next(held, &place, names->dead_receivers, &signal->dead_receivers);
}

static inline PyObject *
get(PyObject *dict, PyObject *name)
{
    /* Both are exact: nothing can go wrong. */
    return PyDict_GetItemWithError(dict, name);
}

/* Return what a dict has under a name, borrowed; NULL, without an error, if that's
 * nothing. `*place` is where the name was the last time, and is hardly ever elsewhere.
 */
static inline PyObject *
get_at(PyObject *dict, PyObject *name, Py_ssize_t *place)
{
    PyObject *found, *value;
    Py_ssize_t next = *place;
    if (has_next(dict, &next, name, &value)) {
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

/* Read the attributes of a signal whose class is plain. Return whether all are there,
 * and none that stands for a method that the fast path leaves out. */
static inline int
read_attributes(module_state *state, PyObject *signal, attributes *attributes)
{
    PyObject *held = instance_dict(signal);
    if (held == NULL) {
        return 0;
    }
    attributes->self = signal;
    if (read_usual_attributes(state, held, attributes)) {
        return 1;
    }
    attributes->receivers = get(held, state->names.receivers);
    attributes->lock = get(held, state->names.lock);
    attributes->use_caching = get(held, state->names.use_caching);
    attributes->cache = get(held, state->names.sender_receivers_cache);
    attributes->dead_receivers = get(held, state->names.dead_receivers);
    return attributes->receivers != NULL && attributes->lock != NULL
           && attributes->use_caching != NULL && attributes->cache != NULL
           && attributes->dead_receivers != NULL
           && get(held, state->names.live_receivers) == NULL
           && get(held, state->names.clear_dead_receivers) == NULL;
}

/* Return whether an attribute that `sender` hasn't can be asked for without its
 * noticing.
 */
static inline int
finds_attributes_unnoticed(PyObject *sender)
{
    getattrofunc find = Py_TYPE(sender)->tp_getattro;
    return find == PyObject_GenericGetAttr
           || (PyType_Check(sender) && find == PyType_Type.tp_getattro);
}

/* Return whether the hash of `sender` and what it equals are not its own business: to
 * look it up can't be noticed, however often it is done. */
static inline int
hashes_unnoticed(PyObject *sender)
{
    PyTypeObject *type = Py_TYPE(sender);
    return (type->tp_hash == PyBaseObject_Type.tp_hash
            && type->tp_richcompare == PyBaseObject_Type.tp_richcompare)
           || sender == Py_None || PyUnicode_CheckExact(sender);
}

#endif
