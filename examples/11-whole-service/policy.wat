;; Who may do what, asked before anything else sees a request: GET and POST, but nothing below /admin.
;; on_http_request(method, path, length of path): 0 denies, 1 allows. method ends with a zero.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "/admin\00\00")

  ;; Where the host puts method and path: behind the first 64 bytes.
  (func (export "alloc") (param $size i32) (result i32)
    (select (i32.const 64) (i32.const 0) (i32.le_u (local.get $size) (i32.const 65000))))

  (func $below_admin (param $path i32) (param $length i32) (result i32)
    (if (i32.lt_u (local.get $length) (i32.const 6)) (then (return (i32.const 0))))
    (i64.eq
      (i64.and (i64.load (local.get $path)) (i64.const 0xFFFFFFFFFFFF))  ;; its first 6 bytes
      (i64.load (i32.const 0))))

  (func $read_or_order (param $method i32) (result i32)
    (i32.or
      (i32.eq (i32.load (local.get $method)) (i32.const 0x00544547))     ;; "GET\0"
      (i32.eq (i32.load (local.get $method)) (i32.const 0x54534F50))))   ;; "POST"

  (func (export "on_http_request") (param $method i32) (param $path i32) (param $length i32)
    (result i32)
    ;; first
    (i32.and
      (call $read_or_order (local.get $method))
      (i32.eqz (call $below_admin (local.get $path) (local.get $length))))))
