/* What the module keeps: names, and what it has to know of other modules. */

#ifndef ALTDISPATCH_STATE_H
#define ALTDISPATCH_STATE_H

#include "compat.h"

/* A call site's keyword names, and those of the calls that come of it. */
typedef struct {
    PyObject *incoming; /* owned; a tuple of interned strings, or NULL: not in use */
    PyObject *outgoing; /* owned; NULL: such a call is for Python */
    Py_ssize_t count;   /* of positional arguments */
} call_site;

#define CALL_SITES 64 /* powers of two */
#define KNOWN_TYPES 16
#define ROWS 1024

/* What is known of a class of signals: see find_kind(). */
typedef enum {
    NOT_PLAIN,
    OWN_LOOKUP,
    REPLACED_LOOKUP,
} type_kind;

typedef struct {
    unsigned int version; /* 0: not in use */
    type_kind kind;
} known_type;

/* Interned strings. The first five are a signal's attributes, in the order of
 * `signal_attributes`. */
#define NAMES(_)                                                                       \
    _(receivers, "receivers")                                                          \
    _(lock, "lock")                                                                    \
    _(use_caching, "use_caching")                                                      \
    _(sender_receivers_cache, "sender_receivers_cache")                                \
    _(dead_receivers, "_dead_receivers")                                               \
    _(acquire, "acquire")                                                              \
    _(class_, "__class__")                                                             \
    _(clear_dead_receivers, "_clear_dead_receivers")                                   \
    _(close, "close")                                                                  \
    _(context, "context")                                                              \
    _(data, "data")                                                                    \
    _(eager_start, "eager_start")                                                      \
    _(func, "__func__")                                                                \
    _(getattr, "__getattr__")                                                          \
    _(getattribute, "__getattribute__")                                                \
    _(live_receivers, "_live_receivers")                                               \
    _(locked, "locked")                                                                \
    _(loop, "loop")                                                                    \
    _(make_id, "_make_id")                                                             \
    _(parent, "parent")                                                                \
    _(ref, "ref")                                                                      \
    _(release, "release")                                                              \
    _(sender, "sender")                                                                \
    _(signal, "signal")                                                                \
    _(strand, "altdispatch.strand")                                                    \
    _(throw_, "throw")                                                                 \
    _(value, "value")

/* Objects of other modules, each with the names on the way to it. The code is that of
 * the functions that are compiled. lock_type is another where threading is patched. */
#define OBJECTS(_)                                                                     \
    _(has_listeners, DISPATCHER, "Signal", "has_listeners", "__code__")                \
    _(send, DISPATCHER, "Signal", "send", "__code__")                                  \
    _(send_robust, DISPATCHER, "Signal", "send_robust", "__code__")                    \
    _(live_receivers, DISPATCHER, "Signal", "_live_receivers", "__code__")             \
    _(make_id, DISPATCHER, "_make_id")                                                 \
    _(no_receivers, DISPATCHER, "NO_RECEIVERS")                                        \
    _(log_failure, DISPATCHER, "log_failure")                                          \
    _(call_found, DISPATCHER, "call_found")                                            \
    _(is_any_found, DISPATCHER, "is_any_found")                                        \
    _(own_live_receivers, DISPATCHER, "OWN_LIVE_RECEIVERS")                            \
    _(own_clear_dead_receivers, DISPATCHER, "OWN_CLEAR_DEAD_RECEIVERS")                \
    _(make_coroutines, DISPATCHER, "make_coroutines")                                  \
    _(receivers_type, "altdispatch.receivers", "Receivers")                            \
    _(entry_length, "altdispatch.releases", "ENTRY_LENGTH")                            \
    _(task_type, "altdispatch.together", "Task")                                       \
    _(task_cancelled, "altdispatch.together", "Task", "cancelled")                     \
    _(run_name, "altdispatch.together", "RUN")                                         \
    _(get_asyncgen_hooks, "sys", "get_asyncgen_hooks")                                 \
    _(set_asyncgen_hooks, "sys", "set_asyncgen_hooks")                                 \
    _(stock, "django.dispatch.dispatcher", "__dict__")                                 \
    _(needs_frame, "django.core.signals", "setting_changed")                           \
    _(weakref, "weakref", "__dict__")                                                  \
    _(cache_type, "weakref", "WeakKeyDictionary")                                      \
    _(weak_method_type, "weakref", "WeakMethod")                                       \
    _(lock_type, "_thread", "LockType")                                                \
    _(rlock_type, "_thread", "RLock")

#define DISPATCHER "altdispatch.dispatcher"
#define DECLARE(field, ...) PyObject *field;

/* No cycle goes through the names: they are there for as long as the module's memory,
 * also while garbage is collected. */
typedef struct {
    NAMES(DECLARE)
    PyObject *signal_and_sender; /* the tuple */
    PyObject *firstiter;         /* ("firstiter",) */
} owned_names;

/* NULL, all of it, once the module was cleared as garbage: the functions have other
 * code than these then, and everything is for Python. */
typedef struct {
#if PY_VERSION_HEX < 0x030C0000
    PyObject *method_type; /* of this module */
#endif
    OBJECTS(DECLARE)
    PyObject *object_class;        /* object.__dict__["__class__"] */
    PyObject *object_getattribute; /* object.__dict__["__getattribute__"] */
    PyObject *run_type;            /* of this module */
    PyObject *lent_to; /* the code of Django's `_live_receivers`: see speedups_lend() */

    /* What watch() was given, or NULL: find_counts while nothing is watched,
     * find_strand while each thread has but one strand, get_greenlet if only greenlets
     * have others. */
    PyObject *find_counts;
    PyObject *find_strand;
    PyObject *get_greenlet;
    PyObject *report;
    PyObject *is_silent;
    PyObject *rows[ROWS]; /* tuples that find_counts has returned, or NULL */
} owned_objects;

typedef struct {
    owned_names names;
    owned_objects owned;
    PyObject *module; /* borrowed: the state is its */

    /* How many items an entry has: see altdispatch/receivers.py. */
    Py_ssize_t entry_length;

    /* Where slots are in a WeakMethod, or -1. */
    Py_ssize_t weak_method_function;
    Py_ssize_t weak_method_kind;

    /* Where in their dicts names were the last time: see get_at(). */
    Py_ssize_t data_place;
    Py_ssize_t make_id_place;
    Py_ssize_t ref_place;

    /* The classes that find_kind() has checked and found plain. */
    known_type known_types[KNOWN_TYPES];
    int64_t limit; /* nanoseconds; calls that take as long are reported */
    call_site call_sites[CALL_SITES];
} module_state;

/* The state of the module, or NULL if there is none any more. A function has no room
 * for it, so there can be only one in a process; speedups_exec() sees to that. */
static module_state *the_state = NULL;

#endif
