;; A custom sizing algorithm as WebAssembly text: a fraction of Kelly, at most `most` of equity.
;; Its numbers, in the order of the settings: kelly_fraction, most.
(module
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 1024))

  ;; Room for so many bytes, aligned to 8; the memory grows as it has to.
  (func (export "allocate") (param $bytes i32) (result i32)
    (local $start i32)
    (local.set $start (global.get $next))
    (global.set $next
      (i32.and
        (i32.add (i32.add (global.get $next) (local.get $bytes)) (i32.const 7))
        (i32.const -8)))
    (block $enough
      (loop $grow
        (br_if $enough
          (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $enough (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
        (br $grow)))
    (local.get $start))

  (func (export "size")
    (param $n i32) (param $columns i32) (param $numbers i32)
    (param $portfolio i32) (param $weights i32)
    (local $line i32) (local $kelly i32)
    (local $fraction f64) (local $most f64)
    (local.set $fraction (f64.load (local.get $numbers)))
    (local.set $most (f64.load offset=8 (local.get $numbers)))
    ;; `kelly` is the eighth column: seven columns of n doubles stand before it.
    (local.set $kelly
      (i32.add (local.get $columns) (i32.mul (i32.const 56) (local.get $n))))
    (block $end
      (loop $next_line
        (br_if $end (i32.ge_u (local.get $line) (local.get $n)))
        (f64.store
          (i32.add (local.get $weights) (i32.shl (local.get $line) (i32.const 3)))
          (f64.max
            (f64.neg (local.get $most))
            (f64.min
              (local.get $most)
              (f64.mul
                (local.get $fraction)
                (f64.load
                  (i32.add (local.get $kelly) (i32.shl (local.get $line) (i32.const 3))))))))
        (local.set $line (i32.add (local.get $line) (i32.const 1)))
        (br $next_line)))))
