/* config-check FILE: prints and returns exactly what `bulkhead -t -c FILE` does. */
#include <sodium.h>
#include <stdio.h>

#include "config/flags.h"

int main(int argc, char **argv) {
    if (argc == 2 && sodium_init() >= 0)
        return flags_test(argv[1], &source_self);
    fprintf(stderr, "Usage: config-check FILE\n");
    return 2;
}
