/* Check how much of the C stack is left. Each level of a recursion of compiled sends
 * uses some; sends in Python use none. */

#ifndef ALTDISPATCH_STACK_H
#define ALTDISPATCH_STACK_H

#include "compat.h"

#if PY_VERSION_HEX >= 0x030E0000

/* From Python 3.14, Py_EnterRecursiveCall() checks the stack. */
static inline int
is_stack_left(void)
{
    return 1;
}

#else

#ifdef _WIN32
#include <windows.h>
#else
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#endif

/* The bytes to leave for a receiver and its calls: at most this, and at most a quarter
 * of a small stack. */
#define MOST_LEFT (128 * 1024)

/* The stack of a thread: its lowest address and its size in bytes. The size is 0 until
 * find_stack() was called, and 1 if it can't be found. */
typedef struct {
    char *bottom;
    size_t size;
} c_stack;

static THREAD_LOCAL c_stack this_stack = {NULL, 0};

static void
find_stack(c_stack *stack)
{
    stack->size = 1;
#if defined(_WIN32)
    ULONG_PTR low, high;
    GetCurrentThreadStackLimits(&low, &high);
    stack->bottom = (char *)low;
    stack->size = (size_t)(high - low);
#elif defined(__APPLE__)
    stack->size = pthread_get_stacksize_np(pthread_self());
    stack->bottom = (char *)pthread_get_stackaddr_np(pthread_self()) - stack->size;
#elif defined(__linux__)
    pthread_attr_t attributes;
    void *bottom;
    size_t size;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) {
        return;
    }
    if (pthread_attr_getstack(&attributes, &bottom, &size) == 0) {
#ifndef __GLIBC__
        /* For the main thread, musl returns only the part that is mapped by now. */
        struct rlimit limit;
        if (syscall(SYS_gettid) == getpid() && getrlimit(RLIMIT_STACK, &limit) == 0
            && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur > size) {
            bottom = (char *)bottom + size - limit.rlim_cur;
            size = limit.rlim_cur;
        }
#endif
        stack->bottom = bottom;
        stack->size = size;
    }
    (void)pthread_attr_destroy(&attributes);
#endif
}

/* Return whether enough is left for one more level. On a stack that isn't the thread's
 * own, as greenlet and others allocate them, the answer is always yes. */
static inline int
is_stack_left(void)
{
    char here;
    c_stack *stack = &this_stack;
    if (stack->size == 0) {
        find_stack(stack);
    }
    size_t needed = stack->size / 4 < MOST_LEFT ? stack->size / 4 : MOST_LEFT;
    size_t left = (size_t)((uintptr_t)&here - (uintptr_t)stack->bottom);
    return left > needed || left > stack->size;
}

#endif

/* Enter one more level of a recursion. Return -1 with a RecursionError if it is too
 * deep; otherwise the caller has to call Py_LeaveRecursiveCall(). */
static inline int
enter_level(void)
{
    if (!is_stack_left()) {
        PyErr_SetString(PyExc_RecursionError,
                        "maximum recursion depth exceeded while sending a signal");
        return -1;
    }
    return Py_EnterRecursiveCall(" while sending a signal");
}

#endif
