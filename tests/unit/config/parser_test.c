/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of config/lexer.c and config/parser.c: values and positions, variables, includes, and a property: a random
 * tree, printed, reads back equal. Messages are tested by the corpus (tests/system/config_test.py). */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/unit/config/config_testing.h"

#include "config/lexer.h"

static struct arena arena;
static const char *message;

/* The map that a text says; NULL: an error, see message. */
static struct value *parse(const char *text) {
    struct text why = {.arena = &arena};
    struct value *top;
    enum err e = parser_read_text(&top, &arena, &test_source, "dir/t.conf", view_text(text), &why);
    text_add_byte(&why, '\0');
    message = why.at;
    return e == ERR_OK ? top : NULL;
}

static const char *print(const struct value *v) {
    struct text t = {.arena = &arena};
    value_print(&t, v, false);
    text_add_byte(&t, '\0');
    return t.at;
}

START_TEST(values) {
    static const struct {
        const char *name, *text, *printed;
    } rows[] = {{"separators", "a=1\nb:2\nc 3", "{a: 1, b: 2, c: 3}"},
                {"json", "{\"a\": [1, \"x\", {\"b\": true}]}", "{a: [1, \"x\", {b: true} ]}"},
                {"one line", "a: 1; b: 2, c: 3 # four", "{a: 1, b: 2, c: 3}"},
                {"last one wins, first place", "a: 1\nb: 2\na: 3", "{a: 3, b: 2}"},
                {"sizes", "a: 1k, b: 1KB, c: 2mib, d: -3g", "{a: 1000, b: 1024, c: 2097152, d: -3000000000}"},
                {"large sizes", "a: 1eb, b: 9e, c: 8191pib",
                 "{a: 1152921504606846976, b: 9000000000000000000, c: 9222246136947933184}"},
                {"words", "a: yes, b: OFF, c: 'on'", "{a: true, b: false, c: \"on\"}"},
                {"floats", "a: 1.5, b: -0.25", "{a: 1.5, b: -0.25}"},
                {"durations are texts", "a: 5s\nb: 2h30m\nc: 1xb", "{a: \"5s\", b: \"2h30m\", c: \"1xb\"}"},
                {"addresses", "a: 127.0.0.1:4222\nb: 1.2.3-4", "{a: \"127.0.0.1:4222\", b: \"1.2.3-4\"}"},
                {"dates", "a: 2016-05-04T18:53:41Z", "{a: 2016-05-04T18:53:41Z}"},
                {"escapes", "a: \"\\x41\\t\\\"\\\\\"", "{a: \"A\\x09\\\"\\\\\"}"},
                {"escapes without quotes", "a: b\\x20c\\n", "{a: \"b c\\x0a\"}"},
                {"block", "a: (\nx (y)\n z)\n)\nb: 1", "{a: \"\\x0ax (y)\\x0a z)\\x0a\", b: 1}"},
                {"block at the end of a file", "a: (\nx\n)", "{a: \"\\x0ax\\x0a\"}"},
                {"block with CR LF", "a: (\r\nx\r\n)\r\nb: 1", "{a: \"\\x0d\\x0ax\\x0d\\x0a\", b: 1}"},
                {"number at a bracket", "a: [1]\nb: [1k, 2]", "{a: [1 ], b: [1000, 2 ]}"},
                {"slash is a blank", "a: 1 /\nb { c: 1 / d: 2 }", "{a: 1, b: {c: 1, d: 2}}"},
                {"key with a brace", "a{b: 1", "{\"a{b\": 1}"},
                {"braces around a file", "{ a: 1\n}}\n", "{a: 1}"},
                {"key without a value in a map", "a { b }", "{b: {}}"},
                {"include as a key", "include: x", "{include: \"x\"}"},
                {"quoted keys", "\"a b\": 1\n'c\"d': 2", "{\"a b\": 1, 'c\"d': 2}"},
                {"empty", "", "{}"},
                {"nested arrays", "a: [[1, 2], [], [[x]]]", "{a: [[1, 2 ], [], [[\"x\" ] ] ]}"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct value *top = parse(rows[i].text);
        ck_assert_msg(top != NULL, "%s: %s", rows[i].name, message);
        ck_assert_msg(strcmp(print(top), rows[i].printed) == 0, "%s: %s", rows[i].name, print(top));
    }
}
END_TEST

START_TEST(numbers_that_are_none) {
    static const struct pair rows[] = {
        {"a: 1kbb", "expected integer, but got '1kbb'"},
        {"a: 9223372036854775808", "integer '9223372036854775808' is out of the range"},
        {"a: 10e", "integer '10e' is out of the range"},
        {"a: 2016-02-30T00:00:00Z", "expected Zulu formatted DateTime, but got '2016-02-30T00:00:00Z'"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_msg(!parse(rows[i].name), "%s", rows[i].name);
        ck_assert_str_eq(message, rows[i].text);
    }
}
END_TEST

/* As nats-server has it since 2.9.21; before, a file that was cut there was valid. */
START_TEST(last_key_without_a_value) {
    static const struct pair rows[] = {{"foo", "1:3"},
                                       {"port: 4222\nauthorization", "2:14"},
                                       {"port: 4222\ntls\n", "3:1"},
                                       {"\x7f"
                                        "ELF\x02",
                                        "1:5"},
                                       {"[", "1:1"},
                                       {"'foo'", "1:5"},
                                       {"log_file: \"", "1:11"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[64];
        snprintf(text, sizeof text, "config is invalid (dir/t.conf:%s)", rows[i].text);
        ck_assert_msg(!parse(rows[i].name), "%s", rows[i].name);
        ck_assert_str_eq(message, text);
    }
}
END_TEST

/* Of a text that goes on behind the value nobody has been told so far. */
START_TEST(variables_that_are_cut) {
    static const struct {
        const char *text;
        bool cut;
    } rows[] = {{"a", false},   {"a,b", true},       {"a;", true},       {"a}b", true},
                {"a\nb", true}, {"a \n", false},     {"\"a,b\"", false}, {"'a,b'", false},
                {"1,2", true},  {"[ 1, 2 ]", false}, {"a\\x2c", false},  {"{ a: 1, b: 2 }", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct pair environment[] = {{"X", rows[i].text}, {NULL, NULL}};
        test_variables = environment;
        struct value *top = parse("a: $X\nb: [ $X ]");
        ck_assert_msg(top != NULL, "%s: %s", rows[i].text, message);
        ck_assert_msg(value_find(top, VIEW("a"))->cut == rows[i].cut, "%s", rows[i].text);
        ck_assert_msg(value_find(top, VIEW("b"))->cut == rows[i].cut, "%s in an array", rows[i].text);
    }
    test_variables = NULL;
}
END_TEST

START_TEST(positions) {
    struct value *top = parse("a: 1\nb: [\n  x\n  \"y\"\n]\n  c: {\n d: 1 }\n");
    ck_assert_ptr_nonnull(top);
    struct value *a = value_find(top, VIEW("a")), *b = value_find(top, VIEW("b")), *c = value_find(top, VIEW("c"));
    ck_assert_uint_eq(a->line, 1);
    ck_assert_uint_eq(a->column, 0); /* from 0 on the first line, from 1 on the others */
    ck_assert_uint_eq(b->line, 2);
    ck_assert_uint_eq(b->column, 1);
    ck_assert_uint_eq(b->array->at[0]->line, 3);
    ck_assert_uint_eq(b->array->at[0]->column, 3);
    ck_assert_uint_eq(b->array->at[1]->column, 4); /* behind the quote */
    ck_assert_uint_eq(c->line, 6);
    ck_assert_uint_eq(value_find(c, VIEW("d"))->line, 7);
    ck_assert_str_eq(a->file, "dir/t.conf");
}
END_TEST

START_TEST(variables) {
    static const struct pair environment[] = {{"INT", "123"}, {"TEXT", "\"123\""},      {"MAP", "{ a: [1, 2] }"},
                                              {"EMPTY", ""},  {"LOOP", "$LOOP"},        {"TO_INT", "$INT"},
                                              {"BAD", "[ 1"}, {"FILE", "1\ninclude x"}, {NULL, NULL}};
    static const struct {
        const char *text, *printed; /* or the message */
        bool fails;
    } rows[] = {
        {"x: 5\na: $x", "{x: 5, a: 5}", false},
        {"x: {b: [1]}\na: [$x, $x]", "{x: {b: [1 ]}, a: [{b: [1 ]}, {b: [1 ]} ]}", false},
        {"x: 1\nm { x: 2\n a: $x }\nb: $x", "{x: 1, m: {x: 2, a: 2}, b: 1}", false},
        {"m { x: 2 }\nn { a: $x }", "variable reference for 'x' on line 2 can not be found", true},
        {"a: $x\nx: 1", "variable reference for 'x' on line 1 can not be found", true},
        {"a: '$x'\nb: \"$x\"\nc: a$x", "{a: \"$x\", b: \"$x\", c: \"a$x\"}", false},
        {"a: $INT\nb: $TEXT\nc: $MAP\nd: $EMPTY\ne: $TO_INT", "{a: 123, b: \"123\", c: {a: [1, 2 ]}, d: \"\", e: 123}",
         false},
        {"a: $BAD",
         "variable reference for 'BAD' on line 1 could not be parsed: Parse error on line 1: 'Expected an array "
         "value terminator \",\" or an array terminator \"]\", but got '",
         true},
        {"a: $FILE",
         "variable reference for 'FILE' on line 1 could not be parsed: error parsing include file 'x', an "
         "environment variable includes no file",
         true},
        {"a: $2a$11$abc\nb: $2b$11$abc\nc: $2y$05$x", "{a: \"$2a$11$abc\", b: \"$2b$11$abc\", c: \"$2y$05$x\"}", false},
        {"a: $2z$11$abc", "variable reference for '2z$11$abc' on line 1 can not be found", true}};
    test_variables = environment;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct value *top = parse(rows[i].text);
        const char *got = top ? print(top) : message;
        ck_assert_msg(!top == rows[i].fails, "%s: %s", rows[i].text, got);
        ck_assert_msg(strncmp(got, rows[i].printed, strlen(rows[i].printed)) == 0, "%s: %s", rows[i].text, got);
    }
    ck_assert_ptr_null(parse("a: $LOOP"));
    ck_assert_ptr_nonnull(strstr(message, "variable reference cycle for 'LOOP'"));
    struct value *top = parse("x: 1\ny: 2\na: $x");
    ck_assert(value_find(top, VIEW("x"))->used && !value_find(top, VIEW("y"))->used);
}
END_TEST

START_TEST(includes) {
    static const struct pair files[] = {{"dir/a.conf", "x: 1\ny: 2"},
                                        {"dir/sub/b.conf", "include c.conf\nz: 3"},
                                        {"dir/sub/c.conf", "w: 4\n"},
                                        {"dir/secret.conf", "pass: topsecret extra"},
                                        {"dir/wants.conf", "v: $x"},
                                        {"dir/shadow", "root:$6$topsecret:19000:0\n"},
                                        {"dir/number", "\na: 1kbbtopsecret\nb: 99999999999999999999\n"},
                                        {"/abs.conf", "v: abs"},
                                        {"dir/loop.conf", "include ../dir/./loop.conf"},
                                        {NULL, NULL}};
    static const struct {
        const char *text, *printed;
        bool fails;
    } rows[] = {
        {"include a.conf\nb: 1", "{x: 1, y: 2, b: 1}", false},
        {"include 'a.conf'\ninclude \"sub/b.conf\"", "{x: 1, y: 2, w: 4, z: 3}", false},
        {"m {\n include sub/../a.conf; b: 1 }", "{m: {x: 1, y: 2, b: 1}}", false},
        {"x: 5\ninclude a.conf\nv: $x", "{x: 1, y: 2, v: 1}", false},
        {"include /a.conf", "{x: 1, y: 2}", false},   /* relative all the same */
        {"include /abs.conf", "{v: \"abs\"}", false}, /* there is none: tried as it is */
        {"include nofile.conf",
         "error parsing include file 'nofile.conf', open dir/nofile.conf: no such file or directory", true},
        {"include secret.conf",
         "error parsing include file 'secret.conf', Parse error on line 1: 'Expected a top-level value to end with a "
         "new line, comment or EOF, but got '...' instead.'",
         true},
        {"x: 1\ninclude wants.conf",
         "error parsing include file 'wants.conf', variable reference for '...' on line 1 can not be found", true},
        {"include shadow",
         "error parsing include file 'shadow', variable reference for '...' on line 1 can not be found", true},
        {"include number", "error parsing include file 'number', integer '...' is out of the range on line 3", true},
        {"include loop.conf",
         "error parsing include file 'loop.conf', error parsing include file "
         "'../dir/./loop.conf', dir/loop.conf includes itself on line 1",
         true}};
    test_files = files;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct value *top = parse(rows[i].text);
        const char *got = top ? print(top) : message;
        ck_assert_msg(!top == rows[i].fails && strcmp(got, rows[i].printed) == 0, "%s: %s", rows[i].text, got);
        ck_assert_msg(!strstr(got, "topsecret"), "%s", got);
    }
    struct value *top = parse("\ninclude a.conf");
    ck_assert_str_eq(value_find(top, VIEW("y"))->file, "dir/a.conf");
    ck_assert_uint_eq(value_find(top, VIEW("y"))->line, 2);
    test_files = NULL;
}
END_TEST

START_TEST(faults_in_the_text) {
    static const struct {
        const char *bytes;
        size_t len, fault;
    } rows[] = {{"", 0, 0},
                {"abc", 3, 3},
                {"a\0b", 3, 1},
                {"\xc3\xbc", 2, 2},
                {"\xc3", 1, 0},
                {"a\x80", 2, 1},
                {"\xc0\xaf", 2, 0},
                {"\xe0\x80\x80", 3, 0},
                {"\xed\xa0\x80", 3, 0},
                {"\xf0\x9f\x98\x80", 4, 4},
                {"\xf4\x90\x80\x80", 4, 0},
                {"\xf5", 1, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_msg(text_find_fault(view_of(rows[i].bytes, rows[i].len)) == rows[i].fault, "row %zu", i);
}
END_TEST

/* ---- the property ---- */

static struct view random_text(bool key) {
    static const char bytes[] = "ab$ \t\n\r:=#/{}[](),;'\"\\xZ09-.\x01\x7f";
    struct text t = {.arena = &arena};
    bool quote = false, apostrophe = false;
    for (int len = rand() % 12; len > 0; len--) {
        char b = bytes[(size_t)rand() % (sizeof bytes - 1)];
        if (key && ((b == '"' && apostrophe) || (b == '\'' && quote)))
            continue; /* no key can hold both */
        quote = quote || b == '"';
        apostrophe = apostrophe || b == '\'';
        text_add_byte(&t, b);
        if (rand() % 10 == 0)
            text_add(&t, VIEW("ü"));
        else if (!key && rand() % 20 == 0)
            text_add_byte(&t, (char)rand()); /* in double quotes any byte can be written */
    }
    return text_view(&t);
}

static struct value *random_value(int depth) {
    struct value *v = value_make(&arena, (enum value_type)(rand() % (depth > 0 ? 7 : 5)));
    switch (v->type) {
    case VALUE_TEXT:
        v->text = random_text(false);
        break;
    case VALUE_INT:
        v->number = rand() % 2 ? rand() % 100 - 50
                               : (int64_t)((uint64_t)rand() << 33 ^ (uint64_t)rand() << 11 ^ (uint64_t)rand());
        break;
    case VALUE_FLOAT:
        v->real = (rand() - RAND_MAX / 2) / (1.0 + rand() % 1000);
        break;
    case VALUE_BOOL:
        v->truth = rand() % 2;
        break;
    case VALUE_DATE:
        v->text = VIEW("2024-02-29T23:59:59Z");
        break;
    case VALUE_ARRAY:
        for (int i = rand() % 5; i > 0; i--)
            value_append(&arena, v, random_value(depth - 1));
        break;
    case VALUE_MAP:
        for (int i = rand() % 14; i > 0; i--)
            value_put(&arena, v, random_text(true), random_value(depth - 1));
        break;
    }
    return v;
}

START_TEST(printed_trees_read_back_equal) {
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 3000; round++) {
        struct value *tree = value_make(&arena, VALUE_MAP);
        struct text t = {.arena = &arena};
        for (int i = rand() % 14; i > 0; i--)
            value_put(&arena, tree, random_text(true), random_value(4));
        value_print_entries(&t, tree, false);
        text_add_byte(&t, '\0');
        struct value *again = parse(t.at);
        ck_assert_msg(again != NULL, "seed %u: %s\n%s", seed, message, t.at);
        ck_assert_msg(value_equal(tree, again), "seed %u:\n%s\n%s", seed, t.at, print(again));
        arena_free(&arena);
    }
}
END_TEST

START_TEST(maps_find_all_keys) {
    struct value *map = value_make(&arena, VALUE_MAP);
    char key[16];
    for (int i = 0; i < 5000; i++) {
        struct value *v = value_make(&arena, VALUE_INT);
        v->number = i;
        value_put(&arena, map, arena_copy(&arena, view_of(key, (size_t)snprintf(key, sizeof key, "k%d", i % 4000))), v);
    }
    ck_assert_uint_eq(map->map->count, 4000);
    for (int i = 0; i < 4000; i++) {
        size_t len = (size_t)snprintf(key, sizeof key, "k%d", i);
        ck_assert_int_eq(value_find(map, view_of(key, len))->number, i < 1000 ? i + 4000 : i);
    }
    ck_assert_ptr_null(value_find(map, VIEW("k4000")));
}
END_TEST

static void add(TCase *tc) {
    tcase_add_test(tc, values);
    tcase_add_test(tc, numbers_that_are_none);
    tcase_add_test(tc, last_key_without_a_value);
    tcase_add_test(tc, variables_that_are_cut);
    tcase_add_test(tc, positions);
    tcase_add_test(tc, variables);
    tcase_add_test(tc, includes);
    tcase_add_test(tc, faults_in_the_text);
    tcase_add_test(tc, printed_trees_read_back_equal);
    tcase_add_test(tc, maps_find_all_keys);
}

int main(void) {
    int failed = test_run("config/parser", add);
    arena_free(&arena);
    return failed;
}
