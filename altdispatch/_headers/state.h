/* The state of the module: names, and objects of other modules. */

#ifndef ALTDISPATCH_STATE_H
#define ALTDISPATCH_STATE_H

#include "compat.h"

/* The keyword names of a send in some source code, and those of its receivers' calls.
 */
typedef struct {
    PyObject *incoming; /* owned; a tuple of interned strings, or NULL: not in use */
    PyObject *outgoing; /* owned; NULL: Python handles such a call */
    Py_ssize_t count;   /* of positional arguments */
} call_site;

#define CALL_SITES 64 /* powers of two */
#define KNOWN_TYPES 16
#define ROWS 1024
#define CACHE_HINTS 256

/* How the fast path treats the signals of a class: see find_kind(). */
typedef enum {
    NOT_PLAIN,
    OWN_LOOKUP,
    REPLACED_LOOKUP,
} type_kind;

typedef struct {
    unsigned int version; /* 0: not in use */
    type_kind kind;
} known_type;

/* Where the item of a sender was in the dict of a signal's cache. Both pointers are
 * only compared. */
typedef struct {
    const PyObject *data;
    const PyObject *sender;
    Py_ssize_t place;
    Py_ssize_t misses; /* look-ups that have not found it there */
} cache_hint;

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

/* Objects of other modules, each with its module and attribute names. The first are the
 * code of the functions that are compiled. If threading is patched, lock_type is the
 * type of that library's locks. */
#define OBJECTS(_)                                                                     \
    _(has_listeners, DISPATCHER, "Signal", "has_listeners", "__code__")                \
    _(send, DISPATCHER, "Signal", "send", "__code__")                                  \
    _(send_robust, DISPATCHER, "Signal", "send_robust", "__code__")                    \
    _(live_receivers, DISPATCHER, "Signal", "_live_receivers", "__code__")             \
    _(make_id, DISPATCHER, "_make_id")                                                 \
    _(no_receivers, DISPATCHER, "NO_RECEIVERS")                                        \
    _(log_failure, DISPATCHER, "log_failure")                                          \
    _(find_and_cache, DISPATCHER, "find_and_cache")                                    \
    _(call_found, DISPATCHER, "call_found")                                            \
    _(is_any_found, DISPATCHER, "is_any_found")                                        \
    _(own_live_receivers, DISPATCHER, "OWN_LIVE_RECEIVERS")                            \
    _(own_clear_dead_receivers, DISPATCHER, "OWN_CLEAR_DEAD_RECEIVERS")                \
    _(make_coroutines, DISPATCHER, "make_coroutines")                                  \
    _(resolve, "altdispatch.receivers", "resolve")                                     \
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

/* No reference cycle includes the names. So they are freed with the module's memory,
 * not by a garbage collection, during which they are still needed. */
typedef struct {
    NAMES(DECLARE)
    PyObject *signal_and_sender; /* the tuple */
    PyObject *firstiter;         /* ("firstiter",) */
} owned_names;

/* A garbage collection that clears the module sets all of these to NULL. From then on,
 * no function has the code that is compared here, so Python handles every call. */
typedef struct {
#if PY_VERSION_HEX < 0x030C0000
    PyObject *method_type; /* of this module */
#endif
    OBJECTS(DECLARE)
    PyObject *object_class;        /* object.__dict__["__class__"] */
    PyObject *object_getattribute; /* object.__dict__["__getattribute__"] */
    PyObject *run_type;            /* of this module */
    PyObject *accelerated;         /* the code of Django's: see speedups_accelerate() */

    /* The arguments of watch(), or NULL: find_counts while monitoring is off;
     * find_strand while each thread has only one strand; get_greenlet unless greenlets
     * are all that has strands of its own. */
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
    PyObject *module; /* borrowed: the module owns the state */

    /* The number of items of an entry: see altdispatch/receivers.py. */
    Py_ssize_t entry_length;

    /* The offsets of two slots of a WeakMethod, or -1. */
    Py_ssize_t weak_method_function;
    Py_ssize_t weak_method_kind;

    /* The positions at which get_at() has found these names last. */
    Py_ssize_t data_place;
    Py_ssize_t make_id_place;
    Py_ssize_t ref_place;

    cache_hint cache_hints[CACHE_HINTS];

    /* The classes that find_kind() has checked. */
    known_type known_types[KNOWN_TYPES];
    int64_t limit; /* nanoseconds: longer calls are reported to subscribers */
    call_site call_sites[CALL_SITES];
} module_state;

/* The state of the module, or NULL after the module was freed. A function can't refer
 * to a state, so a process can have only one: speedups_exec() refuses a second module.
 */
static module_state *the_state = NULL;

#endif
