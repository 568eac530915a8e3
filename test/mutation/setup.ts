import fc from 'fast-check'

// that a property does not hold is enough: looking for the smallest example would take most of the time
fc.configureGlobal({ endOnFailure: true })
