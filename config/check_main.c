/* config-check FILE: prints and returns exactly what `bulkhead -t -c FILE` does. */
#include <sodium.h>
#include <stdio.h>

#include "config/flags.h"
#include "config/tls.h"

int main(int argc, char **argv) {
    struct source source = source_self;
    source.check_pair = tls_check_pair;
    source.check_ca = tls_check_ca;
    if (argc == 2 && sodium_init() >= 0)
        return flags_test(argv[1], &source);
    fprintf(stderr, "Usage: config-check FILE\n");
    return 2;
}
