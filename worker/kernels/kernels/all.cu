// What is compiled, in this order, for a GPU and for the processor.
#include "types.h"
#include "prepare.cu"
#include "people.cu"
#include "suppress.cu"
#include "hash.cu"
#include "standin.cu"
