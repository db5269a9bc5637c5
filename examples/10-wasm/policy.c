/* Who may do what: GET anything but what lies above the root, PUT only below /drafts. */
static char place[4096];

/* Where the host puts method and path. Without it, it adds a page of its own. */
__attribute__((export_name("alloc"))) void *alloc(unsigned size) {
    return size <= sizeof place ? place : 0;
}

static int begins(const char *text, const char *with) {
    while (*with)
        if (*text++ != *with++) return 0;
    return 1;
}

/* 0 denies, 1 allows. method ends with a zero; path has len bytes. */
__attribute__((export_name("on_http_request"))) int on_http_request(
    const char *method, const char *path, int len) {
    for (int i = 0; i + 1 < len; i++)
        if (path[i] == '.' && path[i + 1] == '.') return 0;
    if (begins(method, "GET")) return 1;
    return begins(method, "PUT") && begins(path, "/drafts/");
}
