#ifndef ALLOCATIONS_H
#define ALLOCATIONS_H

/* How often the calling thread has asked for memory, in a program that this is linked into: it takes the place of the C library's
   malloc, calloc, realloc, posix_memalign and aligned_alloc, and passes on to them. */
unsigned long allocations_of_thread(void);

#endif
