/* The HTTP policy of the tests: /admin only by GET, nothing that holds "..". */
static char place[4096];

/* Where the host puts arguments: one call for each instance, and no page more. */
__attribute__((export_name("alloc"))) void *alloc(unsigned size) {
    return size <= sizeof place ? place : 0;
}

static int same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

__attribute__((export_name("on_http_request"))) int on_http_request(
    const char *method, const char *path, int len) {
    for (int i = 0; i + 1 < len; i++)
        if (path[i] == '.' && path[i + 1] == '.') return 0;
    if (len >= 6 && path[0] == '/' && path[1] == 'a' && path[2] == 'd' && path[3] == 'm' &&
        path[4] == 'i' && path[5] == 'n')
        return same(method, "GET");
    return 1;
}
